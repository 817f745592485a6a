"""The U-Net of Appendix B, as the authors released it.

Module names are the release's, so a parameter has the same path here and there. Convolutions and matrix
products run in 'dtype'. Parameters are float32; norms' statistics, softmax and the output are float32
too, or float64 where 'dtype' is.
"""

import math
from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from ddpm_jax.networks import layers
from ddpm_jax.networks.conditioning import NOTHING, Given

Features = Float[Array, "b h w _"]
Resized = Float[Array, "b _ _ _"]
Embedding = Float[Array, "b e"]
HEAD = 1e-10  # the release's "scale 0": uniform within 1e-5 of the usual limit, never exact zeros


def initializer(scale: float = 1.0):
    return nn.initializers.variance_scaling(scale, "fan_avg", "uniform")


def conv(channels: int, name: str, dtype: DTypeLike, scale: float = 1.0, stride: int = 1, **fields):
    """A 3x3 convolution. At stride 2, "SAME" pads an even size only at the bottom and right."""
    layer = partial(nn.Conv, kernel_init=initializer(scale), dtype=dtype, name=name)
    return layer(channels, (3, 3), stride, padding="SAME", **fields)


def dense(channels: int, name: str, dtype: DTypeLike, scale: float = 1.0):
    """A dense layer over the last axis: the release's "nin" where the input is an image."""
    return nn.Dense(channels, kernel_init=initializer(scale), dtype=dtype, name=name)


def timestep_embedding(time: Num[Array, " b"], dim: int) -> Embedding:
    """Returns sines, then cosines, of 'dim' // 2 frequencies from 1 down to exactly 1e-4, in float32.

    An odd 'dim' ends with a column of zeros.
    """
    half = dim // 2
    frequencies = jnp.exp(-math.log(10000.0) * jnp.arange(half) / max(half - 1, 1))
    angles = time.astype(jnp.float32)[:, None] * frequencies
    embedding = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return jnp.pad(embedding, [(0, 0), (0, dim % 2)])


class TimeMLP(nn.Module):
    channels: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, time: Num[Array, " b"]) -> Embedding:
        temb = timestep_embedding(time, self.channels)
        temb = nn.swish(dense(4 * self.channels, "dense0", self.dtype)(temb))
        return dense(4 * self.channels, "dense1", self.dtype)(temb)


class ResnetBlock(nn.Module):
    channels: int
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, parts: list[Features], temb: Embedding, train: bool) -> Features:
        x = layers.join(parts)
        h = nn.swish(layers.GroupNorm(self.dtype, name="norm1")(x, parts))
        h = conv(self.channels, "conv1", self.dtype)(h)
        h += dense(self.channels, "temb_proj", self.dtype)(nn.swish(temb))[:, None, None, :]
        h = nn.swish(layers.GroupNorm(self.dtype, name="norm2")(h))
        h = layers.Dropout(self.dropout, name="Dropout_0")(h, train)
        h = conv(self.channels, "conv2", self.dtype, HEAD)(h)
        if x.shape[-1] != self.channels:
            x = dense(self.channels, "nin_shortcut", self.dtype)(x)
        return x + h


class AttentionBlock(nn.Module):
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Features) -> Features:
        channels = x.shape[-1]
        h = layers.GroupNorm(self.dtype, name="norm")(x)
        q, k, v = (dense(channels, name, self.dtype)(h) for name in "qkv")
        return x + dense(channels, "proj_out", self.dtype, HEAD)(layers.attend(q, k, v))


def blocks(remat: bool) -> tuple[type[ResnetBlock], type[AttentionBlock]]:
    """Returns the two block types; with 'remat' the backward pass recomputes their activations."""
    if not remat:
        return ResnetBlock, AttentionBlock
    return nn.remat(ResnetBlock, static_argnums=(3,)), nn.remat(AttentionBlock)


class Downsample(nn.Module):
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Features) -> Resized:
        return conv(x.shape[-1], "conv", self.dtype, stride=2)(x)


class Upsample(nn.Module):
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Features) -> Resized:
        def convolve(x, kernel, *_, **__):
            return layers.upsampled_conv(x, kernel)

        return conv(x.shape[-1], "conv", self.dtype, conv_general_dilated=convolve)(x)


class Down(nn.Module):
    """One resolution on the way down; returns its skips, the last of which is its output."""

    channels: int
    blocks: int
    attention: bool
    downsample: bool
    remat: bool
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, h: Features, temb: Embedding, train: bool) -> list[Resized]:
        resnet, attention = blocks(self.remat)
        skips = []
        for j in range(self.blocks):
            h = resnet(self.channels, self.dropout, self.dtype, name=f"block_{j}")([h], temb, train)
            if self.attention:
                h = attention(self.dtype, name=f"attn_{j}")(h)
            skips.append(h)
        if self.downsample:
            skips.append(Downsample(self.dtype, name="downsample")(h))
        return skips


class Mid(nn.Module):
    remat: bool
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, h: Features, temb: Embedding, train: bool) -> Features:
        resnet, attention = blocks(self.remat)
        h = resnet(h.shape[-1], self.dropout, self.dtype, name="block_1")([h], temb, train)
        h = attention(self.dtype, name="attn_1")(h)
        return resnet(h.shape[-1], self.dropout, self.dtype, name="block_2")([h], temb, train)


class Up(nn.Module):
    """One resolution on the way up: one block more than on the way down, each with a skip."""

    channels: int
    attention: bool
    upsample: bool
    remat: bool
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, h: Features, skips: list[Features], temb: Embedding, train: bool) -> Resized:
        resnet, attention = blocks(self.remat)
        for j, skip in enumerate(skips):
            block = resnet(self.channels, self.dropout, self.dtype, name=f"block_{j}")
            h = block([h, skip], temb, train)
            if self.attention:
                h = attention(self.dtype, name=f"attn_{j}")(h)
        if self.upsample:
            h = Upsample(self.dtype, name="upsample")(h)
        return h


class UNet(nn.Module):
    """Maps x_t and the time to 'out_channels' per pixel, float32 or wider.

    'attention' lists the heights at which attention follows each block; the middle block always has it.
    'remat' lists the heights at which the backward pass recomputes activations. With 'classes', a label
    is 0..classes - 1, or 'classes' for none. 'time' is an integer or a float, 0 for t = 1. Raises
    ValueError if height or width is not divisible by 2^(levels - 1).
    """

    out_channels: int
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
    ) -> Features:
        levels, (height, width) = len(self.multipliers), x.shape[1:3]
        check_size(height, width, levels)
        heights = [height // 2**i for i in range(levels)]
        temb = TimeMLP(self.channels, self.dtype, name="temb")(time)
        if self.classes:
            embed = nn.Embed(self.classes + 1, temb.shape[-1], dtype=self.dtype, name="label_emb")
            temb += embed(given.labels)
        skips = [conv(self.channels, "conv_in", self.dtype)(x)]
        for i in range(levels):
            down = Down(
                channels=self.channels * self.multipliers[i],
                blocks=self.blocks,
                attention=heights[i] in self.attention,
                downsample=i < levels - 1,
                remat=heights[i] in self.remat,
                dropout=self.dropout,
                dtype=self.dtype,
                name=f"down_{i}",
            )
            skips += down(skips[-1], temb, train)

        mid = Mid(heights[-1] in self.remat, self.dropout, self.dtype, name="mid")
        h = mid(skips[-1], temb, train)

        for i in reversed(range(levels)):
            up = Up(
                channels=self.channels * self.multipliers[i],
                attention=heights[i] in self.attention,
                upsample=i > 0,
                remat=heights[i] in self.remat,
                dropout=self.dropout,
                dtype=self.dtype,
                name=f"up_{i}",
            )
            h = up(h, [skips.pop() for _ in range(self.blocks + 1)], temb, train)

        h = nn.swish(layers.GroupNorm(self.dtype, name="norm_out")(h))
        return conv(self.out_channels, "conv_out", layers.accumulation_dtype(self.dtype), HEAD)(h)


def check_size(height: int, width: int, levels: int) -> None:
    factor = 2 ** (levels - 1)
    if height % factor or width % factor:
        raise ValueError(
            f"images of {height}x{width} cannot be halved {levels - 1} times; both sides must be"
            f" divisible by {factor}, or model.multipliers must be shorter"
        )
