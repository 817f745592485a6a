"""Normal laws in whole numbers, and those of the chain: what an archive's latents are popped and pushed with.

x_t lies on a grid whose step follows the deviations of the laws that it is of, so that no bits
are spent on digits that nobody needs. Encoder and decoder count with the same integers.
"""

import math
import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from scipy import special

from ddpm_jax.codec.calibration import COEFFICIENT_BITS
from ddpm_jax.codec.chain import STATE_BITS, rounded_shift
from ddpm_jax.codec.model import Codec
from ddpm_jax.codec.primitives import ans, shared_noise

PRECISION = 24  # counts are of 2^24
# Steps of the grid in a deviation. With 16 the net size is the same to a thousandth, and two bits more a number
# and latent have to be lent.
FINENESS = 4
REACH = 8  # deviations that the table goes, and that a popped latent can be from its mean
# What the encoder pushes may be further off, where the network is surprised. That costs the bins' least counts
# only; the encoder never pops such a law, which would throw latents all over a wide window.
FAR = 32
POINT_BITS, BETWEEN_BITS = 8, 12  # places of the table in a deviation, and between two of them
TABLE_BITS = 30
TABLE_SHA256 = "25a511b6f5d866d136c96af7f1aad6a6f149e109fdaa94890dec8c4b6dabf04e"
Values = Int64[np.ndarray, " d"]
Edges = Int64[np.ndarray, "*e d"]


class Outside(Exception):
    """A value lies where its law has nothing."""


@lru_cache(maxsize=1)
def table() -> Int64[np.ndarray, " places"]:
    """The distribution function of the standard normal, of 2^30; nothing and all beyond the ends."""
    places = np.arange(2 * REACH * (1 << POINT_BITS) + 1) / (1 << POINT_BITS) - REACH
    made = np.round(special.ndtr(places) * 2.0**TABLE_BITS)
    made[0], made[-1] = 0, 1 << TABLE_BITS
    made = np.append(made, made[-1]).astype("<i8")  # what the last place is interpolated to
    shared_noise.check_table(made, TABLE_SHA256, "the table of the archive")
    return made


class Law(NamedTuple):
    """Of a value on the multiples of 'step' (Q16), within 'reach' of them from its mean, with 'least' counts each."""

    step: int
    inverse: int  # of its deviation, Q23
    reach: int
    least: int


def law(step: int, sigma: int, wide: bool) -> Law:
    """Of a deviation in Q24."""
    inverse = ((1 << (2 * COEFFICIENT_BITS - 1)) + sigma // 2) // sigma
    reach = -(-(FAR if wide else REACH) * sigma // (step << (COEFFICIENT_BITS - STATE_BITS))) + 1
    return Law(step, inverse, reach, int(wide))


def first_bin(given: Law, mean: Values) -> Values:
    """The number of the first bin."""
    return (mean + given.step // 2) // given.step - given.reach


def counts_below(given: Law, mean: Values, begin: Values, edge: Edges) -> Edges:
    """Counts below an edge, 0 being the left one of the first bin."""
    bins = 2 * given.reach + 1
    away = (2 * (begin + edge) - 1) * given.step - 2 * mean  # from the mean, Q17
    bits = POINT_BITS + BETWEEN_BITS
    place = (away * given.inverse >> (STATE_BITS + COEFFICIENT_BITS - bits)) + (REACH << bits)
    place = np.minimum(np.maximum(place, 0), 2 * REACH << bits)
    row, part = place >> BETWEEN_BITS, place & ((1 << BETWEEN_BITS) - 1)
    known = table()
    left = known[row]
    mass = left + ((known[row + 1] - left) * part >> BETWEEN_BITS)
    spread = (1 << PRECISION) - given.least * bins
    return (mass * spread >> TABLE_BITS) + given.least * edge


def push(
    stack: ans.Stack, given: Law, mean: Values, values: Values, pad: ans.Pad | None = None
) -> ans.Stack:
    """Values on the grid. Raises Outside."""
    begin = first_bin(given, mean)
    bins = values // given.step - begin
    if ((bins < 0) | (bins > 2 * given.reach)).any():
        raise Outside
    start, end = (counts_below(given, mean, begin, bins + more) for more in (0, 1))
    if (start >= end).any():
        raise Outside
    return ans.push(stack, start, end - start, PRECISION, pad)


def pop(
    stack: ans.Stack, given: Law, mean: Values, pad: ans.Pad | None = None
) -> tuple[Values, ans.Stack]:
    """Values on the grid. Raises Empty."""
    begins = first_bin(given, mean)

    def find(low: Values, here: slice) -> tuple[Values, Values, Values]:
        at, begin = mean[here], begins[here]
        edges = guess_edges(given, at, begin, low) + np.arange(-1, 3)[:, None]
        counts = counts_below(given, at, begin, edges)
        row = (counts <= low).sum(axis=0) - 1
        if row.min() < 0 or row.max() > 2:
            return bisect(given, at, begin, low)
        lane = np.arange(len(low))
        start = counts[row, lane]
        return edges[row, lane], start, counts[row + 1, lane] - start

    bins, stack = ans.pop(stack, len(mean), PRECISION, find, pad)
    return (begins + bins) * given.step, stack


def guess_edges(given: Law, mean: Values, begin: Values, low: Values) -> Values:
    """The edge below these counts, or one beside it, but for far tails."""
    mass = np.maximum(low - given.least * given.reach, 0) << (TABLE_BITS - PRECISION)
    place = table().searchsorted(mass, "right") - (REACH << POINT_BITS)
    away = (place << (STATE_BITS + COEFFICIENT_BITS - POINT_BITS)) // given.inverse
    return ((away + 2 * mean) // given.step + 1) // 2 - begin


def bisect(given: Law, mean: Values, begin: Values, low: Values) -> tuple[Values, Values, Values]:
    """Bin, start and size of these counts wherever they lie."""
    bins = 2 * given.reach + 1
    left, right = np.zeros_like(low), np.full_like(low, bins)
    for _ in range(bins.bit_length()):
        middle = (left + right) >> 1
        further = counts_below(given, mean, begin, middle) <= low
        left, right = np.where(further, middle, left), np.where(further, right, middle)
    start = counts_below(given, mean, begin, left)
    return left, start, counts_below(given, mean, begin, left + 1) - start


class Laws(NamedTuple):
    """Of the chain at times[i]: q(x_t | x_s) with s the next time, of x_1 given x_0; and p(x_t | the time before), of x_T."""

    scale: list[int]  # of x_s in x_t, Q24
    up: list[Law]
    down: list[Law]


def chain_laws(codec: Codec) -> Laws:
    """Of the calibration's steps and variances, and of the schedule."""
    signal = codec.signal[[*codec.calibration.times, 0]]
    one = 1 << COEFFICIENT_BITS
    scale = [min(round(ratio * one), one - 1) for ratio in (signal[:-1] / signal[1:]).tolist()]
    up = [math.isqrt(one * one - each * each) for each in scale]
    down = [one, *codec.calibration.sigma.tolist()]
    steps = [
        max(min(pair) // FINENESS >> (COEFFICIENT_BITS - STATE_BITS), 1)
        for pair in zip(up, down, strict=True)
    ]
    return Laws(
        scale,
        [law(step, sigma, False) for step, sigma in zip(steps, up, strict=True)],
        [law(step, sigma, True) for step, sigma in zip(steps, down, strict=True)],
    )


def checksum(laws: Laws) -> int:
    """Of all their numbers, so that a machine on which they come out different is told so."""
    numbers = [*laws.scale, *(each for law in (*laws.up, *laws.down) for each in law)]
    return zlib.crc32(np.array(numbers, "<i8").tobytes())


def forward_mean(scale: int, x: Int64[np.ndarray, "h w c"]) -> Values:
    """The mean of q(x_t | x_s), Q16. Eq. 2 over more than one step."""
    return rounded_shift(scale * x, COEFFICIENT_BITS).reshape(-1)
