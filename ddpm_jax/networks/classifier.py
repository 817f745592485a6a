"""A classifier of noisy images, whose gradient guides samples: Dhariwal and Nichol 2021, Sec. 4.

The downward half of the U-Net, with its time embedding. Theirs pools by attention; this one takes the mean.
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
    """Returns log p(label | x_t) for each image's label or, without labels, for every class; float32 or wider.

    The fields and 'time' are the U-Net's, and so is the ValueError.
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
        heights = [height // 2**i for i in range(levels)]
        for i, multiplier in enumerate(self.multipliers):
            down = unet.Down(
                channels=self.channels * multiplier,
                blocks=self.blocks,
                attention=heights[i] in self.attention,
                downsample=i < levels - 1,
                remat=heights[i] in self.remat,
                dropout=self.dropout,
                dtype=self.dtype,
                name=f"down_{i}",
            )
            h = down(h, temb, train)[-1]
        mid = unet.Mid(heights[-1] in self.remat, self.dropout, self.dtype, name="mid")
        h = mid(h, temb, train)
        h = nn.swish(layers.GroupNorm(self.dtype, name="norm_out")(h)).mean(axis=(1, 2))
        logits = unet.dense(self.classes, "head", layers.accumulation_dtype(self.dtype), unet.HEAD)(
            h
        )
        log_p = nn.log_softmax(logits)
        if given.labels is None:
            return log_p
        return jnp.take_along_axis(log_p, given.labels[:, None], axis=-1)[:, 0]
