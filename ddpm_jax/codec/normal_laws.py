"""Normal laws in integers, and those of the chain: an archive pops and pushes its latents with them.

x_t lies on a grid whose step is a fraction of the deviations of its laws, so that no bits are spent
on needless digits. Encoder and decoder compute the same integers.
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

PRECISION = 24  # counts are out of 2^24
# Grid steps in a deviation. With 16, the net size is the same to a thousandth, but the stack must have two more
# bits per dimension to start from.
FINENESS = 4
REACH = 8  # deviations that the table spans on each side, and the furthest a popped latent is from its mean
# The encoder may push values further off, where the network is surprised. This costs only each bin's least
# count. It never pops with such a law: latents would scatter over the whole window.
FAR = 32
POINT_BITS, BETWEEN_BITS = 8, 12  # table points in a deviation, and positions between two of them
TABLE_BITS = 30
TABLE_SHA256 = "25a511b6f5d866d136c96af7f1aad6a6f149e109fdaa94890dec8c4b6dabf04e"
Values = Int64[np.ndarray, " d"]
Edges = Int64[np.ndarray, "*e d"]


class Outside(Exception):
    """A value lies outside the support of its law."""


@lru_cache(maxsize=1)
def table() -> Int64[np.ndarray, " places"]:
    """The distribution function of the standard normal out of 2^30, with all mass between the ends."""
    points = np.arange(2 * REACH * (1 << POINT_BITS) + 1) / (1 << POINT_BITS) - REACH
    values = np.round(special.ndtr(points) * 2.0**TABLE_BITS)
    values[0], values[-1] = 0, 1 << TABLE_BITS
    values = np.append(values, values[-1]).astype("<i8")  # the last point interpolates to this one
    shared_noise.check_table(values, TABLE_SHA256, "the table of the archive")
    return values


class Law(NamedTuple):
    """A normal law on multiples of 'step' (Q16), 'reach' bins to each side, each of 'least' counts or more."""

    step: int
    inverse: int  # of the deviation, Q23
    reach: int
    least: int


def law(step: int, sigma: int, wide: bool) -> Law:
    """Builds a law with deviation 'sigma' (Q24); a wide one reaches FAR deviations, for pushing only."""
    inverse = ((1 << (2 * COEFFICIENT_BITS - 1)) + sigma // 2) // sigma
    reach = -(-(FAR if wide else REACH) * sigma // (step << (COEFFICIENT_BITS - STATE_BITS))) + 1
    return Law(step, inverse, reach, int(wide))


def first_bin(law: Law, mean: Values) -> Values:
    """Returns the number of the first bin."""
    return (mean + law.step // 2) // law.step - law.reach


def counts_below(law: Law, mean: Values, begin: Values, edge: Edges) -> Edges:
    """Returns the counts below an edge; edge 0 is the left one of bin 'begin'."""
    bins = 2 * law.reach + 1
    away = (2 * (begin + edge) - 1) * law.step - 2 * mean  # from the mean, Q17
    bits = POINT_BITS + BETWEEN_BITS
    position = (away * law.inverse >> (STATE_BITS + COEFFICIENT_BITS - bits)) + (REACH << bits)
    position = np.minimum(np.maximum(position, 0), 2 * REACH << bits)
    row, part = position >> BETWEEN_BITS, position & ((1 << BETWEEN_BITS) - 1)
    cdf = table()
    left = cdf[row]
    mass = left + ((cdf[row + 1] - left) * part >> BETWEEN_BITS)
    spread = (1 << PRECISION) - law.least * bins
    return (mass * spread >> TABLE_BITS) + law.least * edge


def push(
    stack: ans.Stack, law: Law, mean: Values, values: Values, pad: ans.Pad | None = None
) -> ans.Stack:
    """Pushes values on the grid. Raises Outside."""
    begin = first_bin(law, mean)
    bins = values // law.step - begin
    if ((bins < 0) | (bins > 2 * law.reach)).any():
        raise Outside
    start, end = (counts_below(law, mean, begin, bins + more) for more in (0, 1))
    if (start >= end).any():
        raise Outside
    return ans.push(stack, start, end - start, PRECISION, pad)


def pop(
    stack: ans.Stack, law: Law, mean: Values, pad: ans.Pad | None = None
) -> tuple[Values, ans.Stack]:
    """Pops values on the grid. Raises Empty."""
    begins = first_bin(law, mean)

    def find(low: Values, chunk: slice) -> tuple[Values, Values, Values]:
        center, begin = mean[chunk], begins[chunk]
        edges = guess_edges(law, center, begin, low) + np.arange(-1, 3)[:, None]
        counts = counts_below(law, center, begin, edges)
        row = (counts <= low).sum(axis=0) - 1
        if row.min() < 0 or row.max() > 2:
            return bisect(law, center, begin, low)
        lane = np.arange(len(low))
        start = counts[row, lane]
        return edges[row, lane], start, counts[row + 1, lane] - start

    bins, stack = ans.pop(stack, len(mean), PRECISION, find, pad)
    return (begins + bins) * law.step, stack


def guess_edges(law: Law, mean: Values, begin: Values, low: Values) -> Values:
    """Guesses the edge below these counts; except in the far tails it is off by one at most."""
    mass = np.maximum(low - law.least * law.reach, 0) << (TABLE_BITS - PRECISION)
    point = table().searchsorted(mass, "right") - (REACH << POINT_BITS)
    away = (point << (STATE_BITS + COEFFICIENT_BITS - POINT_BITS)) // law.inverse
    return ((away + 2 * mean) // law.step + 1) // 2 - begin


def bisect(law: Law, mean: Values, begin: Values, low: Values) -> tuple[Values, Values, Values]:
    """Finds the bin that holds these counts, its start and its size, wherever they lie."""
    bins = 2 * law.reach + 1
    left, right = np.zeros_like(low), np.full_like(low, bins)
    for _ in range(bins.bit_length()):
        middle = (left + right) >> 1
        further = counts_below(law, mean, begin, middle) <= low
        left, right = np.where(further, middle, left), np.where(further, right, middle)
    start = counts_below(law, mean, begin, left)
    return left, start, counts_below(law, mean, begin, left + 1) - start


class Laws(NamedTuple):
    """The laws of the chain. With t = times[i], and s the time after it in that list:

    q[i] is q(x_t | x_s), the last one q(x_1 | x_0); p[i + 1] is p(x_s | x_t), and p[0] is p(x_T).
    """

    scale: list[int]  # of x_s in x_t, Q24
    q: list[Law]
    p: list[Law]


def chain_laws(codec: Codec) -> Laws:
    """Computes the laws from the calibration and the schedule."""
    signal = codec.signal[[*codec.calibration.times, 0]]
    one = 1 << COEFFICIENT_BITS
    scale = [min(round(ratio * one), one - 1) for ratio in (signal[:-1] / signal[1:]).tolist()]
    sigma_q = [math.isqrt(one * one - each * each) for each in scale]
    sigma_p = [one, *codec.calibration.sigma.tolist()]
    steps = [
        max(min(pair) // FINENESS >> (COEFFICIENT_BITS - STATE_BITS), 1)
        for pair in zip(sigma_q, sigma_p, strict=True)
    ]
    return Laws(
        scale=scale,
        q=[law(step, sigma, False) for step, sigma in zip(steps, sigma_q, strict=True)],
        p=[law(step, sigma, True) for step, sigma in zip(steps, sigma_p, strict=True)],
    )


def checksum(laws: Laws) -> int:
    """CRC-32 of all their numbers, which reveals a machine that computes others."""
    numbers = [*laws.scale, *(number for law in (*laws.q, *laws.p) for number in law)]
    return zlib.crc32(np.array(numbers, "<i8").tobytes())


def forward_mean(scale: int, x: Int64[np.ndarray, "h w c"]) -> Values:
    """Returns the mean of q(x_t | x_s), Q16: Eq. 2 over more than one step."""
    return rounded_shift(scale * x, COEFFICIENT_BITS).reshape(-1)
