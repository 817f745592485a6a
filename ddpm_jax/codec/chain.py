"""The chain from x_T, which is shared noise, to x_1; encoder and decoder compute it in the same integers.

Algorithms 3 and 4, with larger steps. x_t is Q16 and x_0-hat Q10. Only the network computes in floats, and
its output is rounded to a grid coarse enough to hide the drift between machines.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from ddpm_jax.codec.calibration import COEFFICIENT_BITS, OVERHEAD, START
from ddpm_jax.codec.errors import CorruptStream
from ddpm_jax.codec.model import Codec
from ddpm_jax.codec.primitives import shared_noise, trellis

STATE_BITS, GRID_BITS = 16, 10  # after the binary point, of x_t and of x_0-hat
# An encoder keeps every output MARGIN away from a rounding boundary. Images with at least LARGE outputs would
# always have one closer than that, so they keep LARGE_MARGIN. Drift in x_0-hat grows as the signal in x_t fades.
MARGIN, LARGE, LARGE_MARGIN = 1e-11, 1 << 19, 1e-12
OCTAVE = (65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194)  # 2^(k / 8), Q16
FURTHEST = 128  # eighths of an octave by which a step's bit count may differ from its budget
State = Int64[np.ndarray, "h w c"]


class TooClose(Exception):
    """An output of the network lies so near a rounding boundary that machines might differ in rounding it."""


class EndOfBits(Exception):
    """There are no more bits to read."""


class Transmission(NamedTuple):
    """The bits of all steps, and x_0-hat at every time, x_0-hat(x_1) last."""

    bits: UInt8[np.ndarray, " n"]
    grids: list[State]
    ends: list[int]  # bits up to the end of each step


def initial_state(codec: Codec, nonce: int) -> State:
    """Returns x_T, which both sides compute and nobody sends."""
    key = shared_noise.make_key(codec.model, nonce, "x_T")
    noise = shared_noise.normal(key, int(np.prod(codec.shape))).astype(np.int64)
    return (noise << (STATE_BITS - shared_noise.NORMAL_BITS)).reshape(codec.shape)


def denoise(codec: Codec, x: State, t: int) -> tuple[State, float]:
    """Returns x_0-hat on the grid, and the distance from the nearest output to its rounding boundary."""
    scaled = codec.predict(x / 2.0**STATE_BITS, t) * 2.0**GRID_BITS
    if not np.isfinite(scaled).all():
        raise ValueError(f"the network's output at t = {t} is not finite; check the checkpoint")
    grid = np.floor(scaled + 0.5)
    margin = (0.5 - np.abs(scaled - grid).max()) / 2.0**GRID_BITS
    return grid.astype(np.int64), float(margin)


def mean(codec: Codec, step: int, grid: State, x: State) -> State:
    """The mean of p(x_s | x_t): Eq. 7 with x_0-hat for x_0."""
    plan = codec.calibration
    total = plan.of_x_0[step] * (grid << (STATE_BITS - GRID_BITS)) + plan.of_x_t[step] * x
    return rounded_shift(total, COEFFICIENT_BITS)


def add_noise(codec: Codec, step: int, mean: State, noise: Int64[np.ndarray, " d"]) -> State:
    """Returns x_s: the mean plus noise with the step's deviation."""
    spread = codec.calibration.sigma[step] * noise.reshape(mean.shape)
    return mean + rounded_shift(spread, COEFFICIENT_BITS + shared_noise.NORMAL_BITS - STATE_BITS)


def rounded_shift(values: State, bits: int) -> State:
    """Divides by 2^bits and rounds to the nearest integer, halves upwards."""
    return (values + (1 << (bits - 1))) >> bits


def branch_count(budget: int, q: int, dims: int) -> int:
    """The number of bits of a path: the step's budget, moved by 'q' eighths of an octave."""
    octaves, eighth = divmod(q, 8)
    scaled = budget * OCTAVE[eighth]
    scaled = scaled << octaves if octaves >= 0 else scaled >> -octaves
    return min(max((scaled + 32768) >> 16, trellis.min_branches(dims)), dims)


def unary_code(change: int) -> list[int]:
    """Encodes a small integer as ones and a final zero; the order is 0, -1, 1, -2, 2, ..."""
    return [1] * (2 * change if change >= 0 else -2 * change - 1) + [0]


class Reader(NamedTuple):
    bits: UInt8[np.ndarray, " n"]
    position: list[int]  # of the next bit, alone in a list so that reading can move it


def read_bits(reader: Reader, count: int) -> UInt8[np.ndarray, " m"]:
    """Reads the next bits. Raises EndOfBits if there are fewer."""
    first = reader.position[0]
    if first + count > len(reader.bits):
        raise EndOfBits
    reader.position[0] += count
    return reader.bits[first : first + count]


def read_unary(reader: Reader) -> int:
    """Reads a unary code. Raises CorruptStream for a number larger than any encoder writes."""
    ones = 0
    while read_bits(reader, 1)[0]:
        ones += 1
        if ones > 4 * FURTHEST:
            raise CorruptStream("its payload is damaged: a number does not end")
    return ones // 2 if ones % 2 == 0 else -(ones + 1) // 2


def send(
    codec: Codec, image: UInt8[np.ndarray, "h w c"], nu: int, nonce: int, margin: float
) -> Transmission:
    """Algorithm 3. Raises TooClose if an output is nearer a rounding boundary than 'margin' / signal in x_t."""
    plan, dims = codec.calibration, image.size
    x_0 = image * (2.0 / (codec.levels - 1)) - 1.0
    x, q, bits, ends, grids = initial_state(codec, nonce), 0, [], [], []

    def next_grid(t: int) -> State:
        grid, distance = denoise(codec, x, t)
        if distance * codec.signal[t] < margin:
            raise TooClose
        grids.append(grid)
        return grid

    for step, t in enumerate(plan.times[:-1]):
        grid = next_grid(t)
        rho2 = float(plan.rho2[step])
        away = ((x_0 - grid / 2.0**GRID_BITS) * plan.of_x_0[step] / plan.sigma[step]).reshape(-1)
        kl = 0.5 * (dims * (rho2 - 1.0 - np.log(rho2)) + float(away @ away)) / np.log(2.0)
        budget = int(plan.budget[step])
        ideal = round(8 * float(np.log2((OVERHEAD * kl + START) / budget)))
        change, q = min(max(ideal, -FURTHEST), FURTHEST) - q, min(max(ideal, -FURTHEST), FURTHEST)
        count = branch_count(budget, q, dims)
        branches = trellis.make_branches((codec.model, nonce, step), dims, count, nu)
        path = trellis.search(branches, away, rho2)
        bits += [np.array(unary_code(change), np.uint8), path]
        ends.append(sum(map(len, bits[-2:])) + (ends[-1] if ends else 0))
        # The decoder's own arithmetic, so that both sides start the next step from the same state.
        x = add_noise(codec, step, mean(codec, step, grid, x), trellis.noise(branches, path))
    next_grid(1)
    return Transmission(np.concatenate(bits), grids, ends)


class Reception(NamedTuple):
    """The state after the last complete step, its time, and the damage to the next step, if any."""

    x: State
    t: int
    steps: int
    damage: str = ""


def receive(codec: Codec, reader: Reader, nu: int, nonce: int) -> Reception:
    """Algorithm 4, up to the last step whose bits are complete."""
    plan, dims = codec.calibration, int(np.prod(codec.shape))
    x, q = initial_state(codec, nonce), 0
    for step, t in enumerate(plan.times[:-1]):
        try:
            q += read_unary(reader)
            if abs(q) > FURTHEST:
                raise CorruptStream("its payload is damaged: a bit count is out of range")
            path = read_bits(reader, branch_count(int(plan.budget[step]), q, dims))
        except EndOfBits:
            return Reception(x, t, step)
        except CorruptStream as error:
            return Reception(x, t, step, str(error))
        branches = trellis.make_branches((codec.model, nonce, step), dims, len(path), nu)
        grid, _ = denoise(codec, x, t)
        x = add_noise(codec, step, mean(codec, step, grid, x), trellis.noise(branches, path))
    return Reception(x, 1, len(plan.times) - 1)
