"""The U-Net's normalisation, dropout, attention and upsampling, where a train step spends its time beside convolutions.

Each is the textbook's function, written so that the compiler reads and writes the activations few times;
docs/performance.md lists what each form costs.
"""

import math
from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Key

Features = Float[Array, "b h w _"]
Resized = Float[Array, "b _ _ _"]
PerChannel = Float[Array, "b _"]
EPSILON = 1e-6


class GroupNorm(nn.Module):
    """GroupNorm in 32 groups, or fewer where 32 does not divide the channels.

    'parts' are the arrays that x concatenates, if any. The statistics come from their moments, which two
    norms of one part then share.
    """

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Features, parts: Sequence[Features] = ()) -> Features:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        groups = math.gcd(32, *channels)
        means, variances = (join(each) for each in zip(*map(moments, parts or [x]), strict=True))
        mean = group_mean(means, groups)
        variance = group_mean(variances + jnp.square(means - mean), groups)
        inverse_std = jax.lax.rsqrt(variance + EPSILON)
        return normalize(groups, x, mean, inverse_std, scale, bias).astype(self.dtype)


def accumulation_dtype(dtype: DTypeLike) -> DTypeLike:
    """Returns float32, or float64 for float64."""
    return jnp.promote_types(dtype, jnp.float32)


def join(parts: Sequence[Array]) -> Array:
    """Concatenates along the channels; one part stays the same array."""
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def moments(x: Features) -> tuple[PerChannel, PerChannel]:
    """Returns the mean and variance of each channel of each image, in float32 or wider.

    float32 takes two passes, so that a large mean loses no digits. bfloat16 takes one, fused with the
    convolution that makes x: rounding x to 8 bits has already put an error of 1e-6 of the squared mean
    into its variance, and one pass adds less.
    """
    one_pass = x.dtype == jnp.bfloat16
    x = jax.lax.stop_gradient(x).astype(accumulation_dtype(x.dtype))
    mean = x.mean(axis=(1, 2))
    if one_pass:
        return mean, jnp.maximum(jnp.square(x).mean(axis=(1, 2)) - jnp.square(mean), 0.0)
    return mean, jnp.square(x - mean[:, None, None, :]).mean(axis=(1, 2))


def group_mean(per_channel: PerChannel, groups: int) -> PerChannel:
    """Returns for each channel the mean over its group, so that later arithmetic stays per channel."""
    means = per_channel.reshape(len(per_channel), groups, -1).mean(axis=-1)
    return jnp.repeat(means, per_channel.shape[-1] // groups, axis=-1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def normalize(
    groups: int, x: Features, mean: PerChannel, inverse_std: PerChannel, scale: Array, bias: Array
) -> Features:
    """(x - mean) / std * scale + bias. The derivative treats 'mean' and 'inverse_std' as functions of x."""
    centred = x.astype(accumulation_dtype(x.dtype)) - mean[:, None, None, :]
    return centred * inverse_std[:, None, None, :] * scale + bias


@normalize.defjvp
def normalize_jvp(groups, primals, tangents):
    """Its transpose, the gradient, takes two sums over an image's positions instead of five."""
    x, mean, inverse_std, scale, bias = primals
    dx, _, _, dscale, dbias = tangents
    dx = dx.astype(accumulation_dtype(dx.dtype))
    unit = normalize(groups, x, mean, inverse_std, jnp.ones_like(scale), jnp.zeros_like(bias))
    factor = inverse_std_of(groups, x, mean, inverse_std) * scale
    shift = dbias - factor * group_mean(dx.mean(axis=(1, 2)), groups)
    tilt = dscale - factor * group_mean((unit * dx).mean(axis=(1, 2)), groups)
    factor, shift, tilt = (a[:, None, None, :] for a in (factor, shift, tilt))
    return normalize(groups, *primals), factor * dx + shift + tilt * unit


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def inverse_std_of(
    groups: int, x: Features, mean: PerChannel, inverse_std: PerChannel
) -> PerChannel:
    """'inverse_std' with its derivative as a function of x, which second derivatives need."""
    return inverse_std


@inverse_std_of.defjvp
def inverse_std_of_jvp(groups, primals, tangents):
    x, mean, inverse_std = primals
    dx = tangents[0].astype(accumulation_dtype(tangents[0].dtype))
    ones = jnp.ones(x.shape[-1])
    unit = normalize(groups, x, mean, inverse_std, ones, jnp.zeros_like(ones))
    value = inverse_std_of(groups, x, mean, inverse_std)
    return value, -jnp.square(value) * group_mean((unit * dx).mean(axis=(1, 2)), groups)


class Dropout(nn.Module):
    """Zeroes elements with probability 'rate' and divides the others by 1 - rate."""

    rate: float

    @nn.compact
    def __call__(self, x: Features, train: bool) -> Features:
        if not train or self.rate == 0.0:
            return x
        keep = keep_mask(self.make_rng("dropout"), x.shape, self.rate)
        return jnp.where(keep, x * (1.0 / (1.0 - self.rate)), 0.0)


def keep_mask(key: Key[Array, ""], shape: tuple[int, ...], rate: float) -> Bool[Array, "b h w c"]:
    """Draws the elements that dropout keeps, from the key, the example's index and the element's index.

    Threefry gives each example 64 bits; MurmurHash3's finalizer hashes them with the element's index to
    32, in about 10 operations where threefry's 20 rounds take over 100.
    """
    words = jax.random.bits(key, (shape[0], 2))[..., None, None, None]
    first, second = words[:, 0], words[:, 1]
    row, column, channel = (jax.lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (1, 2, 3))
    bits = ((row * shape[2] + column) * shape[3] + channel) ^ first
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B) ^ second
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    bits = bits ^ (bits >> 16)
    # Without the barrier each use would compute the mask again instead of reading it.
    return jax.lax.optimization_barrier(bits >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1)))


def attend(q: Features, k: Features, v: Features) -> Features:
    """Single-head attention of every position to every position, softmax in float32."""
    shape, channels = q.shape, q.shape[-1]
    # One axis of positions: a TPU would pad the second of two axes of 16 to its registers' 128 lanes.
    q, k, v = (a.reshape(shape[0], -1, channels) for a in (q, k, v))
    logits = jnp.einsum("bqc,bkc->bqk", q, k, preferred_element_type=accumulation_dtype(q.dtype))
    weights = jax.nn.softmax(logits * channels**-0.5, axis=-1).astype(v.dtype)
    return jnp.einsum("bqk,bkc->bqc", weights, v).reshape(shape)


@jax.custom_jvp
def upsampled_conv(x: Features, kernel: Array) -> Resized:
    """A 3x3 convolution of x with every pixel repeated 2x2."""
    return convolve(x.repeat(2, axis=1).repeat(2, axis=2), kernel, "SAME")


@upsampled_conv.defjvp
def upsampled_conv_jvp(primals, tangents):
    """The derivative in x is a 4x4 convolution of dx with zeros between its pixels.

    Its transpose, the gradient, is a convolution of stride 2: 16 products for each pixel of x in place of
    9 for each of its 4 copies, which would then be summed.
    """
    (x, kernel), (dx, dkernel) = primals, tangents
    kernel_32 = kernel.astype(jnp.float32)
    shifts = [(a, 1 - a) for a in (0, 1)]
    padded = (jnp.pad(kernel_32, [a, b, (0, 0), (0, 0)]) for a in shifts for b in shifts)
    kernel_4x4 = sum(padded, start=jnp.float32(0.0)).astype(kernel.dtype)
    along_x = convolve(dx, kernel_4x4, ((2, 2), (2, 2)), dilation=2)
    repeated = x.repeat(2, axis=1).repeat(2, axis=2)
    return upsampled_conv(x, kernel), along_x + convolve(repeated, dkernel, "SAME")


def convolve(
    x: Features, kernel: Array, padding: str | Sequence[tuple[int, int]], dilation: int = 1
) -> Resized:
    """Convolves x, with 'dilation' - 1 zeros between its pixels, at stride 1."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=padding,
        lhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
