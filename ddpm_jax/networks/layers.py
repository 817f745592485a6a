"""The U-Net's normalisation, dropout and attention: where a train step's time goes beside convolutions.

Each is the textbook's function, written so that a compiler passes over the activations few times;
docs/performance.md has what each form costs.
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
    """GroupNorm in 32 groups (fewer where the channels do not divide by 32).

    Where x was joined of parts, their moments are taken: two norms of one part then share them.
    """

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Features, parts: Sequence[Features] = ()) -> Features:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        groups = math.gcd(32, *channels)
        means, variances = (joined(each) for each in zip(*map(moments, parts or [x]), strict=True))
        mean = of_group(means, groups)
        variance = of_group(variances + jnp.square(means - mean), groups)
        per_std = jax.lax.rsqrt(variance + EPSILON)
        return normalized(groups, x, mean, per_std, scale, bias).astype(self.dtype)


def wide(dtype: DTypeLike) -> DTypeLike:
    """What is accumulated in: float32, or float64 where that is what there is."""
    return jnp.promote_types(dtype, jnp.float32)


def joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def moments(x: Features) -> tuple[PerChannel, PerChannel]:
    """Mean and variance of every image's every channel, in float32 or wider.

    Of float32 in two passes, which a large mean does not hurt. Of bfloat16 in one, with the convolution
    that makes x: rounding x to its 8 bits has cost its variance 1e-6 of the squared mean, and this costs
    less. Where that is much, x has no variance left to speak of.
    """
    one_pass = x.dtype == jnp.bfloat16
    x = jax.lax.stop_gradient(x).astype(wide(x.dtype))
    mean = x.mean(axis=(1, 2))
    if one_pass:
        return mean, jnp.maximum(jnp.square(x).mean(axis=(1, 2)) - jnp.square(mean), 0.0)
    return mean, jnp.square(x - mean[:, None, None, :]).mean(axis=(1, 2))


def of_group(per_channel: PerChannel, groups: int) -> PerChannel:
    """The mean over its group, for every channel: arithmetic on it stays per channel, and small."""
    means = per_channel.reshape(len(per_channel), groups, -1).mean(axis=-1)
    return jnp.repeat(means, per_channel.shape[-1] // groups, axis=-1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def normalized(
    groups: int, x: Features, mean: PerChannel, per_std: PerChannel, scale: Array, bias: Array
) -> Features:
    """x less its groups' mean, by their deviation, scaled and shifted; the two follow from x."""
    unit = (x.astype(wide(x.dtype)) - mean[:, None, None, :]) * per_std[:, None, None, :]
    return unit * scale + bias


@normalized.defjvp
def normalized_jvp(groups, primals, tangents):
    """Such that its transpose, the gradient, needs two sums over an image's positions, not five."""
    x, mean, per_std, scale, bias = primals
    dx, _, _, dscale, dbias = tangents
    dx = dx.astype(wide(dx.dtype))
    unit = normalized(groups, x, mean, per_std, jnp.ones_like(scale), jnp.zeros_like(bias))
    factor = inverse_deviation(groups, x, mean, per_std) * scale
    shift = dbias - factor * of_group(dx.mean(axis=(1, 2)), groups)
    tilt = dscale - factor * of_group((unit * dx).mean(axis=(1, 2)), groups)
    factor, shift, tilt = (a[:, None, None, :] for a in (factor, shift, tilt))
    return normalized(groups, *primals), factor * dx + shift + tilt * unit


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def inverse_deviation(
    groups: int, x: Features, mean: PerChannel, per_std: PerChannel
) -> PerChannel:
    """'per_std', which follows from x: what the second derivative needs to know."""
    return per_std


@inverse_deviation.defjvp
def inverse_deviation_jvp(groups, primals, tangents):
    x, mean, per_std = primals
    dx = tangents[0].astype(wide(tangents[0].dtype))
    whole = jnp.ones(x.shape[-1])
    unit = normalized(groups, x, mean, per_std, whole, jnp.zeros_like(whole))
    own = inverse_deviation(groups, x, mean, per_std)
    return own, -jnp.square(own) * of_group((unit * dx).mean(axis=(1, 2)), groups)


class Dropout(nn.Module):
    """Zeroes elements with probability 'rate' and divides the others by what it leaves of 1."""

    rate: float

    @nn.compact
    def __call__(self, x: Features, train: bool) -> Features:
        if not train or self.rate == 0.0:
            return x
        keep = kept(self.make_rng("dropout"), x.shape, self.rate)
        return jnp.where(keep, x * (1.0 / (1.0 - self.rate)), 0.0)


def kept(key: Key[Array, ""], shape: tuple[int, ...], rate: float) -> Bool[Array, "b h w c"]:
    """Which elements stay: a function of the key, the example's place in the batch and the element's.

    Threefry gives each example 64 bits, and a hash of them and the element's number the 32 that decide:
    MurmurHash3's finalizer, about 10 operations, where threefry's 20 rounds take over 100.
    """
    words = jax.random.bits(key, (shape[0], 2))[..., None, None, None]
    first, second = words[:, 0], words[:, 1]
    row, column, channel = (jax.lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (1, 2, 3))
    bits = ((row * shape[2] + column) * shape[3] + channel) ^ first
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B) ^ second
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    bits = bits ^ (bits >> 16)
    # Or every user of the mask would make it again, rather than read it.
    return jax.lax.optimization_barrier(bits >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1)))


def attend(q: Features, k: Features, v: Features) -> Features:
    """Single-head attention of every position to every position, softmax in float32."""
    shape, channels = q.shape, q.shape[-1]
    # One axis of positions: two of 16 would be padded to the 128 lanes of a TPU's registers.
    q, k, v = (a.reshape(shape[0], -1, channels) for a in (q, k, v))
    logits = jnp.einsum("bqc,bkc->bqk", q, k, preferred_element_type=wide(q.dtype))
    weights = jax.nn.softmax(logits * channels**-0.5, axis=-1).astype(v.dtype)
    return jnp.einsum("bqk,bkc->bqc", weights, v).reshape(shape)


@jax.custom_jvp
def upsampled_conv(x: Features, kernel: Array) -> Resized:
    """A 3x3 convolution of x with every pixel repeated 2x2."""
    return convolve(x.repeat(2, axis=1).repeat(2, axis=2), kernel, "SAME")


@upsampled_conv.defjvp
def upsampled_conv_jvp(primals, tangents):
    """In dx it is a 4x4 convolution of dx with zeros between its pixels.

    So the gradient is one of stride 2: 16 products where 9 at each of 4 pixels would then be summed.
    """
    (x, kernel), (dx, dkernel) = primals, tangents
    wide = kernel.astype(jnp.float32)
    shifts = [(a, 1 - a) for a in (0, 1)]
    sums = sum(jnp.pad(wide, [a, b, (0, 0), (0, 0)]) for a in shifts for b in shifts)
    along_x = convolve(dx, sums.astype(kernel.dtype), ((2, 2), (2, 2)), spread=2)
    nearest = x.repeat(2, axis=1).repeat(2, axis=2)
    return upsampled_conv(x, kernel), along_x + convolve(nearest, dkernel, "SAME")


def convolve(x: Features, kernel: Array, padding, spread: int = 1) -> Resized:
    axes, spread = ("NHWC", "HWIO", "NHWC"), (spread, spread)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, spread, dimension_numbers=axes)
