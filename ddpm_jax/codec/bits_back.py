"""Bits back (Hinton and van Camp 1993): one image onto a stack of bits, at the cost of the bound and no more. Eq. 5.

Latents are popped off the stack, with q, and pushed back, with p: what choosing them took is no loss. In
Bit-Swap's order (Kingma et al., arXiv:1905.06845), x_s is pushed as soon as x_t has been popped, so
the stack has to lend one x_t's bits only, however long the chain.
"""

import numpy as np
from jaxtyping import Int64, UInt8

from ddpm_jax.codec import chain, last_layer, normal_laws
from ddpm_jax.codec.model import Codec
from ddpm_jax.codec.normal_laws import Laws
from ddpm_jax.codec.primitives import ans, shared_noise

PRECISION = 16  # of last_layer.TOTAL
SCALE_BITS, LEVEL_BITS = 5, 8  # of last_layer.SCALES, and of a level that is told by itself
State = Int64[np.ndarray, "h w c"]
Levels = UInt8[np.ndarray, "h w c"]


def push(stack: ans.Stack, image: Levels, codec: Codec, of: Laws, margin: float) -> ans.Stack:
    """Raises Empty where the stack cannot lend enough, Outside and TooClose where the chain fails the image."""

    def seen(x: State, t: int) -> State:
        grid, kept = chain.denoise(codec, x, t)
        if kept * codec.signal[t] < margin:
            raise chain.TooClose
        return grid

    times = codec.calibration.times
    x, stack = pop_latent(stack, codec, of, len(times) - 1, fixed_point_image(image, codec.levels))
    stack = push_pixels(stack, seen(x, 1), image, codec.levels)
    for step in reversed(range(len(times) - 1)):
        x_s = x
        x, stack = pop_latent(stack, codec, of, step, x_s)
        mean = chain.mean(codec, step, seen(x, times[step]), x)
        stack = normal_laws.push(stack, of.down[step + 1], mean.reshape(-1), x_s.reshape(-1))
    return normal_laws.push(stack, of.down[0], np.zeros(x.size, np.int64), x.reshape(-1))


def pop(stack: ans.Stack, codec: Codec, of: Laws) -> tuple[Levels, ans.Stack]:
    """The inverse, step by step. Raises Empty or Outside for a stack that has no image."""
    times = codec.calibration.times
    flat, stack = normal_laws.pop(stack, of.down[0], np.zeros(int(np.prod(codec.shape)), np.int64))
    x = flat.reshape(codec.shape)
    for step, t in enumerate(times[:-1]):
        mean = chain.mean(codec, step, chain.denoise(codec, x, t)[0], x)
        flat, stack = normal_laws.pop(stack, of.down[step + 1], mean.reshape(-1))
        x_s = flat.reshape(codec.shape)
        stack = push_latent(stack, codec, of, step, x_s, x)
        x = x_s
    image, stack = pop_pixels(stack, chain.denoise(codec, x, 1)[0], codec.levels)
    return image, push_latent(
        stack, codec, of, len(times) - 1, fixed_point_image(image, codec.levels), x
    )


def pop_latent(
    stack: ans.Stack, codec: Codec, of: Laws, step: int, x_s: State
) -> tuple[State, ans.Stack]:
    """x_t at times[step], of q."""
    mean = normal_laws.forward_mean(of.scale[step], x_s)
    flat, stack = normal_laws.pop(stack, of.up[step], mean, pad(codec, step))
    return flat.reshape(x_s.shape), stack


def push_latent(
    stack: ans.Stack, codec: Codec, of: Laws, step: int, x_s: State, x_t: State
) -> ans.Stack:
    """What 'popped' took."""
    mean = normal_laws.forward_mean(of.scale[step], x_s)
    return normal_laws.push(stack, of.up[step], mean, x_t.reshape(-1), pad(codec, step))


def pad(codec: Codec, step: int) -> ans.Pad:
    """Else the noise in x_t at a pixel would be that which x_s, just pushed, has there against p."""
    key = shared_noise.make_key(codec.model, step, "pad")
    words = shared_noise.words(key, int(np.prod(codec.shape)))
    return words.astype(np.uint64) >> np.uint64(32 - normal_laws.PRECISION)


def fixed_point_image(image: Levels, levels: int) -> State:
    """x_0 on [-1, 1], Q16."""
    whole = image.astype(np.int64) << (chain.STATE_BITS + 1)
    return (whole + (levels - 1) // 2) // (levels - 1) - (1 << chain.STATE_BITS)


def push_pixels(stack: ans.Stack, grid: State, image: Levels, levels: int) -> ans.Stack:
    """p(x_0 | x_1): the last layer's laws, and its escapes as levels."""
    given, pixels = last_layer.pixel_laws(grid, levels), image.reshape(-1).astype(np.int64)
    scale = last_layer.best_scale(given, pixels)
    symbols = last_layer.to_symbols(given, pixels)
    told = pixels[is_escape(symbols)]
    stack = ans.push(stack, told, np.ones_like(told), LEVEL_BITS)
    start, end = last_layer.intervals(given, scale, symbols)
    stack = ans.push(stack, start, end - start, PRECISION)
    return ans.push(stack, np.array([scale]), np.ones(1, np.int64), SCALE_BITS)


def pop_pixels(stack: ans.Stack, grid: State, levels: int) -> tuple[Levels, ans.Stack]:
    given = last_layer.pixel_laws(grid, levels)
    scale, stack = ans.pop(stack, 1, SCALE_BITS, ans.find_uniform)
    rows = last_layer.tables()[scale[0]][given.phase]
    first, last = last_layer.extremes(given)

    def find(low: ans.Counts, here: slice) -> tuple[ans.Counts, ans.Counts, ans.Counts]:
        at = (rows[here] <= low[:, None]).sum(axis=1) - 1
        at = np.clip(at, first[here], last[here])
        some = last_layer.Law(given.phase[here], given.middle[here], levels)
        start, end = last_layer.intervals(some, int(scale[0]), at)
        return at, start, end - start

    symbols, stack = ans.pop(stack, len(given.phase), PRECISION, find)
    found = given.middle + symbols - last_layer.WINDOW - 1
    missing = is_escape(symbols)
    found[missing], stack = ans.pop(stack, int(missing.sum()), LEVEL_BITS, ans.find_uniform)
    if found.min() < 0 or found.max() >= levels:
        raise normal_laws.Outside
    return found.astype(np.uint8).reshape(grid.shape), stack


def is_escape(symbols: ans.Counts) -> UInt8[np.ndarray, " d"] | np.ndarray:
    return (symbols == 0) | (symbols == last_layer.SYMBOLS - 1)
