"""A classifier of noisy images, whose gradient guides samples: Dhariwal and Nichol 2021, Sec. 4.

The way down of the U-Net, with the time in it. Theirs pools by attention; this one takes the mean.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from ddpm_jax.networks import layers, unet
from ddpm_jax.networks.conditioning import NOTHING, Given
from ddpm_jax.networks.unet import Features

LogProbability = Float[Array, "b *classes"]


class Classifier(nn.Module):
    """log p(label | x_t) of each image's label, or, without labels, of every class; float32 or wider.

    The fields and 'time' are the U-Net's. Raises ValueError as it does.
    """

    channels: int
    multipliers: Sequence[int]
    blocks: int
    attention: Sequence[int]
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    remat: Sequence[int] = ()
    classes: int = 0

    @nn.compact
    def __call__(
        self, x: Features, time: Num[Array, " b"], train: bool = False, given: Given = NOTHING
    ) -> LogProbability:
        levels, (height, width) = len(self.multipliers), x.shape[1:3]
        unet.check_size(height, width, levels)
        temb = unet.TimeMLP(self.channels, self.dtype, name="temb")(time)
        h = unet.conv(self.channels, "conv_in", self.dtype)(x)
        for i, multiplier in enumerate(self.multipliers):
            at = height // 2**i
            rest = at in self.remat, self.dropout, self.dtype
            level = self.channels * multiplier, self.blocks, at in self.attention, i < levels - 1
            h = unet.Down(*level, *rest, name=f"down_{i}")(h, temb, train)[-1]
        h = unet.Mid(*rest, name="mid")(h, temb, train)
        h = nn.swish(layers.GroupNorm(self.dtype, name="norm_out")(h)).mean(axis=(1, 2))
        logits = unet.dense(self.classes, "head", layers.wide(self.dtype), unet.HEAD)(h)
        log_p = nn.log_softmax(logits)
        if given.labels is None:
            return log_p
        return jnp.take_along_axis(log_p, given.labels[:, None], axis=-1)[:, 0]
