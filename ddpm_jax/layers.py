"""The U-Net's normalisation, dropout and attention: where a train step's time goes beside convolutions.

Each is the textbook's function, written so that a compiler passes over the activations few times;
launch/performance.md has what each form costs.
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
PerChannel = Float[Array, "b _"]
EPSILON = 1e-6
CHANCES = 2**16  # dropout's probability is a multiple of 1 / CHANCES: 0.1 is 6554 / 65536


class GroupNorm(nn.Module):
    """GroupNorm in 32 groups (fewer where the channels do not divide by 32), of parts put together.

    A part's moments are taken by themselves: two norms of one part then share them.
    """

    dtype: DTypeLike

    @nn.compact
    def __call__(self, parts: Sequence[Features]) -> Features:
        x = joined(parts)
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        groups = math.gcd(32, *channels)
        means, variances = (joined(each) for each in zip(*map(moments, parts), strict=True))
        mean = of_group(means, groups)
        variance = of_group(variances + jnp.square(means - mean), groups)
        per_std = jax.lax.rsqrt(variance + EPSILON)
        return normalized(groups, x, mean, per_std, scale, bias).astype(self.dtype)


def joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def moments(x: Features) -> tuple[PerChannel, PerChannel]:
    """Mean and variance of every image's every channel; in two passes, which a large mean does not hurt."""
    x = jax.lax.stop_gradient(x).astype(jnp.float32)
    mean = x.mean(axis=(1, 2))
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
    unit = (x.astype(jnp.float32) - mean[:, None, None, :]) * per_std[:, None, None, :]
    return unit * scale + bias


@normalized.defjvp
def normalized_jvp(groups, primals, tangents):
    """Such that its transpose, the gradient, needs two sums over an image's positions, not five."""
    x, mean, per_std, scale, bias = primals
    dx, _, _, dscale, dbias = tangents
    dx = dx.astype(jnp.float32)
    unit = (x.astype(jnp.float32) - mean[:, None, None, :]) * per_std[:, None, None, :]
    factor = per_std * scale
    shift = dbias - factor * of_group(dx.mean(axis=(1, 2)), groups)
    tilt = dscale - factor * of_group((unit * dx).mean(axis=(1, 2)), groups)
    factor, shift, tilt = (a[:, None, None, :] for a in (factor, shift, tilt))
    return unit * scale + bias, factor * dx + shift + tilt * unit


class Dropout(nn.Module):
    """Zeroes with probability 'rate', to the nearest 1 / CHANCES, and divides what is left by the rest."""

    rate: float

    @nn.compact
    def __call__(self, x: Features, train: bool) -> Features:
        if not train or self.rate == 0.0:
            return x
        drop = min(round(self.rate * CHANCES), CHANCES - 1)
        keep = kept(self.make_rng("dropout"), x.shape, drop)
        return jnp.where(keep, x * (CHANCES / (CHANCES - drop)), 0.0)


def kept(key: Key[Array, ""], shape: tuple[int, ...], drop: int) -> Bool[Array, "b h w c"]:
    """Whether an element is kept: false 'drop' times in CHANCES, whatever devices share the batch."""
    b, h, w, c = shape
    # A key of threefry is the 64 bits it makes at once; random.bits would xor them into 32 and take
    # 32 for each element, so four elements a quarter of the image apart share a key.
    words = jax.random.key_data(jax.random.split(key, (b, -(-h // 4), w, c)))
    chances = [part for i in range(2) for part in (words[..., i] & 0xFFFF, words[..., i] >> 16)]
    keep = jnp.concatenate([chance >= drop for chance in chances], axis=1)[:, :h]
    # Or every user of the mask would make it again, rather than read it.
    return jax.lax.optimization_barrier(keep)


def attend(q: Features, k: Features, v: Features) -> Features:
    """Single-head attention of every position to every position, softmax in float32."""
    shape, channels = q.shape, q.shape[-1]
    # One axis of positions: two of 16 would be padded to the 128 lanes of a TPU's registers.
    q, k, v = (a.reshape(shape[0], -1, channels) for a in (q, k, v))
    logits = jnp.einsum("bqc,bkc->bqk", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits * channels**-0.5, axis=-1).astype(v.dtype)
    return jnp.einsum("bqk,bkc->bqc", weights, v).reshape(shape)
