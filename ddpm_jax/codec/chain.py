"""The chain from x_T, shared noise, to x_1: encoder and decoder walk it in the same whole numbers.

Algorithms 3 and 4, with larger steps. x_t is Q16, x_0-hat Q10; the network is the only thing in floats, and
its output is rounded to a grid on which drift between machines does not show.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from ddpm_jax.codec.calibration import COEFFICIENT_BITS, OVERHEAD, START
from ddpm_jax.codec.errors import CorruptStream
from ddpm_jax.codec.model import Codec
from ddpm_jax.codec.primitives import shared_noise, trellis

STATE_BITS, GRID_BITS = 16, 10  # after the binary point, of x_t and of x_0-hat
# How far from where rounding turns all must be that an encoder relies on, and of images with so many
# outputs, of which some would always be that near. x_0-hat's drift grows as the signal in x_t fades.
MARGIN, LARGE, LARGE_MARGIN = 1e-11, 1 << 19, 1e-12
OCTAVE = (65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194)  # 2^(k / 8), Q16
FURTHEST = 128  # eighths of an octave that a step's count may be from its budget
State = Int64[np.ndarray, "h w c"]


class TooClose(Exception):
    """An output of the network lies where another machine might round it the other way."""


class EndOfBits(Exception):
    """The bits have come to their end."""


class Transmission(NamedTuple):
    """The bits of every step, and x_0-hat at every time, x_0-hat(x_1) the last."""

    bits: UInt8[np.ndarray, " n"]
    grids: list[State]
    ends: list[int]  # bits up to the end of every step


def initial_state(codec: Codec, nonce: int) -> State:
    """x_T, which nobody sends."""
    key = shared_noise.make_key(codec.model, nonce, "x_T")
    noise = shared_noise.normal(key, int(np.prod(codec.shape))).astype(np.int64)
    return (noise << (STATE_BITS - shared_noise.NORMAL_BITS)).reshape(codec.shape)


def denoise(codec: Codec, x: State, t: int) -> tuple[State, float]:
    """x_0-hat on the grid, and how far the nearest of its outputs is from where rounding turns."""
    scaled = codec.predict(x / 2.0**STATE_BITS, t) * 2.0**GRID_BITS
    if not np.isfinite(scaled).all():
        raise ValueError(f"the network's output at t = {t} is not finite")
    grid = np.floor(scaled + 0.5)
    margin = (0.5 - np.abs(scaled - grid).max()) / 2.0**GRID_BITS
    return grid.astype(np.int64), float(margin)


def mean(codec: Codec, step: int, grid: State, x: State) -> State:
    """Eq. 7 with x_0-hat for x_0."""
    plan = codec.calibration
    total = plan.of_x_0[step] * (grid << (STATE_BITS - GRID_BITS)) + plan.of_x_t[step] * x
    return rounded_shift(total, COEFFICIENT_BITS)


def add_noise(codec: Codec, step: int, mean: State, noise: Int64[np.ndarray, " d"]) -> State:
    spread = codec.calibration.sigma[step] * noise.reshape(mean.shape)
    return mean + rounded_shift(spread, COEFFICIENT_BITS + shared_noise.NORMAL_BITS - STATE_BITS)


def rounded_shift(values: State, bits: int) -> State:
    """Divided by 2^bits, rounded to the nearest, halves upwards."""
    return (values + (1 << (bits - 1))) >> bits


def branch_count(budget: int, q: int, dims: int) -> int:
    """Bits of a path: the step's budget, 'q' eighths of an octave up or down."""
    octaves, eighth = divmod(q, 8)
    scaled = budget * OCTAVE[eighth]
    scaled = scaled << octaves if octaves >= 0 else scaled >> -octaves
    return min(max((scaled + 32768) >> 16, trellis.min_branches(dims)), dims)


def unary_code(change: int) -> list[int]:
    """A small whole number as so many ones and a zero: 0, -1, 1, -2, 2, ..."""
    return [1] * (2 * change if change >= 0 else -2 * change - 1) + [0]


class Reader(NamedTuple):
    bits: UInt8[np.ndarray, " n"]
    place: list[int]


def read_bits(reader: Reader, count: int) -> UInt8[np.ndarray, " m"]:
    """The next bits. Raises EndOfBits if there are fewer."""
    first = reader.place[0]
    if first + count > len(reader.bits):
        raise EndOfBits
    reader.place[0] += count
    return reader.bits[first : first + count]


def read_unary(reader: Reader) -> int:
    """Raises CorruptStream for a number that no encoder writes."""
    ones = 0
    while read_bits(reader, 1)[0]:
        ones += 1
        if ones > 4 * FURTHEST:
            raise CorruptStream("its payload is damaged: a number without end")
    return ones // 2 if ones % 2 == 0 else -(ones + 1) // 2


def send(
    codec: Codec, image: UInt8[np.ndarray, "h w c"], nu: int, nonce: int, margin: float
) -> Transmission:
    """Algorithm 3. Raises TooClose where the margin (of x_0-hat times its signal) is not kept."""
    plan, dims = codec.calibration, image.size
    x_0 = image * (2.0 / (codec.levels - 1)) - 1.0
    x, q, bits, ends, grids = initial_state(codec, nonce), 0, [], [], []

    def seen(t: int) -> State:
        grid, kept = denoise(codec, x, t)
        if kept * codec.signal[t] < margin:
            raise TooClose
        grids.append(grid)
        return grid

    for step, t in enumerate(plan.times[:-1]):
        grid = seen(t)
        rho2 = float(plan.rho2[step])
        away = ((x_0 - grid / 2.0**GRID_BITS) * plan.of_x_0[step] / plan.sigma[step]).reshape(-1)
        kl = 0.5 * (dims * (rho2 - 1.0 - np.log(rho2)) + float(away @ away)) / np.log(2.0)
        budget = int(plan.budget[step])
        wanted = round(8 * float(np.log2((OVERHEAD * kl + START) / budget)))
        change, q = min(max(wanted, -FURTHEST), FURTHEST) - q, min(max(wanted, -FURTHEST), FURTHEST)
        count = branch_count(budget, q, dims)
        branches = trellis.make_branches((codec.model, nonce, step), dims, count, nu)
        path = trellis.search(branches, away, rho2)
        bits += [np.array(unary_code(change), np.uint8), path]
        ends.append(sum(map(len, bits[-2:])) + (ends[-1] if ends else 0))
        # The decoder's own arithmetic, so that the next step begins where it will be.
        x = add_noise(codec, step, mean(codec, step, grid, x), trellis.noise(branches, path))
    seen(1)
    return Transmission(np.concatenate(bits), grids, ends)


class Reception(NamedTuple):
    """The state after the last step that is there in full, its time, and what is wrong with the next, if anything."""

    x: State
    t: int
    steps: int
    damage: str = ""


def receive(codec: Codec, reader: Reader, nu: int, nonce: int) -> Reception:
    """Algorithm 4, as far as the bits go."""
    plan, dims = codec.calibration, int(np.prod(codec.shape))
    x, q = initial_state(codec, nonce), 0
    for step, t in enumerate(plan.times[:-1]):
        try:
            q += read_unary(reader)
            if abs(q) > FURTHEST:
                raise CorruptStream("its payload is damaged: a count beyond all bounds")
            path = read_bits(reader, branch_count(int(plan.budget[step]), q, dims))
        except EndOfBits:
            return Reception(x, t, step)
        except CorruptStream as error:
            return Reception(x, t, step, str(error))
        branches = trellis.make_branches((codec.model, nonce, step), dims, len(path), nu)
        grid, _ = denoise(codec, x, t)
        x = add_noise(codec, step, mean(codec, step, grid, x), trellis.noise(branches, path))
    return Reception(x, 1, len(plan.times) - 1)
