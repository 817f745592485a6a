"""Bits-back coding (Hinton and van Camp 1993): pushes an image onto a stack, at the cost of its bound. Eq. 5.

Latents are popped off the stack with q and pushed back with p, so the bits used to choose them are not lost. In
Bit-Swap's order (Kingma et al., arXiv:1905.06845), x_s is pushed as soon as x_t has been popped, so the stack
needs bits for only one latent at a time, however long the chain.
"""

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from ddpm_jax.codec import chain, last_layer, normal_laws
from ddpm_jax.codec.model import Codec
from ddpm_jax.codec.normal_laws import Laws
from ddpm_jax.codec.primitives import ans, shared_noise

PRECISION = 16  # of last_layer.TOTAL
SCALE_BITS, LEVEL_BITS = 5, 8  # of last_layer.SCALES, and of an escaped level
State = Int64[np.ndarray, "h w c"]
Levels = UInt8[np.ndarray, "h w c"]


def push(stack: ans.Stack, image: Levels, codec: Codec, laws: Laws, margin: float) -> ans.Stack:
    """Pushes an image.

    Raises Empty if the stack has too few bits, Outside and TooClose if the chain cannot code the image.
    """

    def grid(x: State, t: int) -> State:
        x_0_hat, distance = chain.denoise(codec, x, t)
        if distance * codec.signal[t] < margin:
            raise chain.TooClose
        return x_0_hat

    times = codec.calibration.times
    x_0 = fixed_point_image(image, codec.levels)
    x, stack = pop_latent(stack, codec, laws, len(times) - 1, x_0)
    stack = push_pixels(stack, grid(x, 1), image, codec.levels)
    for step in reversed(range(len(times) - 1)):
        x_s = x
        x, stack = pop_latent(stack, codec, laws, step, x_s)
        mean = chain.mean(codec, step, grid(x, times[step]), x)
        stack = normal_laws.push(stack, laws.p[step + 1], mean.reshape(-1), x_s.reshape(-1))
    return normal_laws.push(stack, laws.p[0], np.zeros(x.size, np.int64), x.reshape(-1))


def pop(stack: ans.Stack, codec: Codec, laws: Laws) -> tuple[Levels, ans.Stack]:
    """Pops an image, inverting 'push' step by step. Raises Empty or Outside if the stack holds no image."""
    times = codec.calibration.times
    flat, stack = normal_laws.pop(stack, laws.p[0], np.zeros(int(np.prod(codec.shape)), np.int64))
    x = flat.reshape(codec.shape)
    for step, t in enumerate(times[:-1]):
        mean = chain.mean(codec, step, chain.denoise(codec, x, t)[0], x)
        flat, stack = normal_laws.pop(stack, laws.p[step + 1], mean.reshape(-1))
        x_s = flat.reshape(codec.shape)
        stack = push_latent(stack, codec, laws, step, x_s, x)
        x = x_s
    image, stack = pop_pixels(stack, chain.denoise(codec, x, 1)[0], codec.levels)
    x_0 = fixed_point_image(image, codec.levels)
    return image, push_latent(stack, codec, laws, len(times) - 1, x_0, x)


def pop_latent(
    stack: ans.Stack, codec: Codec, laws: Laws, step: int, x_s: State
) -> tuple[State, ans.Stack]:
    """Pops x_t at times[step] with q(x_t | x_s)."""
    mean = normal_laws.forward_mean(laws.scale[step], x_s)
    flat, stack = normal_laws.pop(stack, laws.q[step], mean, pad(codec, step))
    return flat.reshape(x_s.shape), stack


def push_latent(
    stack: ans.Stack, codec: Codec, laws: Laws, step: int, x_s: State, x_t: State
) -> ans.Stack:
    """Inverts pop_latent."""
    mean = normal_laws.forward_mean(laws.scale[step], x_s)
    return normal_laws.push(stack, laws.q[step], mean, x_t.reshape(-1), pad(codec, step))


def pad(codec: Codec, step: int) -> ans.Pad:
    """Random words that keep the noise of x_t from depending on x_s, whose bits were pushed just before."""
    key = shared_noise.make_key(codec.model, step, "pad")
    words = shared_noise.words(key, int(np.prod(codec.shape)))
    return words.astype(np.uint64) >> np.uint64(32 - normal_laws.PRECISION)


def fixed_point_image(image: Levels, levels: int) -> State:
    """Converts an image to x_0 on [-1, 1], Q16."""
    scaled = image.astype(np.int64) << (chain.STATE_BITS + 1)
    return (scaled + (levels - 1) // 2) // (levels - 1) - (1 << chain.STATE_BITS)


def push_pixels(stack: ans.Stack, grid: State, image: Levels, levels: int) -> ans.Stack:
    """Pushes the pixels with p(x_0 | x_1): the last layer's laws, and the levels of escapes."""
    laws, pixels = last_layer.pixel_laws(grid, levels), image.reshape(-1).astype(np.int64)
    scale = last_layer.best_scale(laws, pixels)
    symbols = last_layer.to_symbols(laws, pixels)
    escapes = pixels[is_escape(symbols)]
    stack = ans.push(stack, escapes, np.ones_like(escapes), LEVEL_BITS)
    start, end = last_layer.intervals(laws, scale, symbols)
    stack = ans.push(stack, start, end - start, PRECISION)
    return ans.push(stack, np.array([scale]), np.ones(1, np.int64), SCALE_BITS)


def pop_pixels(stack: ans.Stack, grid: State, levels: int) -> tuple[Levels, ans.Stack]:
    """Inverts push_pixels. Raises Outside for an escaped level that the images do not have."""
    laws = last_layer.pixel_laws(grid, levels)
    scale, stack = ans.pop(stack, 1, SCALE_BITS, ans.find_uniform)
    rows = last_layer.tables()[scale[0]][laws.phase]
    first, last = last_layer.extremes(laws)

    def find(low: ans.Counts, chunk: slice) -> tuple[ans.Counts, ans.Counts, ans.Counts]:
        symbols = (rows[chunk] <= low[:, None]).sum(axis=1) - 1
        symbols = np.clip(symbols, first[chunk], last[chunk])
        part = last_layer.PixelLaws(laws.phase[chunk], laws.middle[chunk], levels)
        start, end = last_layer.intervals(part, int(scale[0]), symbols)
        return symbols, start, end - start

    symbols, stack = ans.pop(stack, len(laws.phase), PRECISION, find)
    pixels = laws.middle + symbols - last_layer.WINDOW - 1
    escapes = is_escape(symbols)
    pixels[escapes], stack = ans.pop(stack, int(escapes.sum()), LEVEL_BITS, ans.find_uniform)
    if pixels.min() < 0 or pixels.max() >= levels:
        raise normal_laws.Outside
    return pixels.astype(np.uint8).reshape(grid.shape), stack


def is_escape(symbols: ans.Counts) -> Bool[np.ndarray, " n"]:
    return (symbols == 0) | (symbols == last_layer.SYMBOLS - 1)
