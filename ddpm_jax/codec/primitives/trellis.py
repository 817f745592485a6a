"""Reverse-channel coding by a random-label trellis, searched with Viterbi over a whole step. Algorithms 3 and 4.

A path of M bits stands for the noise z of M groups of pixels: the state is the last nu bits, and each
transition has a row of shared normal numbers. The encoder sends the path whose z has the greatest ratio of
q(x_s | x_t, x_0) to p(x_s | x_t): about KL(q || p) bits for a z that is nearly a sample of q. (Trellis
source coding: Marcellin and Fischer 1990; a random trellis for a target distribution: arXiv:1008.2008; the
bit-shift trellis: arXiv:2406.11235.) It does not sample q exactly; poisson.py does.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int16, Int64, UInt8

from ddpm_jax.codec.primitives import shared_noise

COLUMNS = 96  # of the table of labels; a branch has at most this many pixels
SCALE = 2.0**-shared_noise.NORMAL_BITS
Bits = UInt8[np.ndarray, " m"]
Noise = Int64[np.ndarray, " d"]


class Branches(NamedTuple):
    """How the pixels of one step are distributed over M branches, and which labels each branch reads."""

    order: Int64[np.ndarray, " d"]
    signs: Int64[np.ndarray, " d"]
    edges: Int64[np.ndarray, " m1"]
    masks: Int64[np.ndarray, " m"]
    offsets: Int64[np.ndarray, " m"]
    nu: int


def min_branches(dims: int) -> int:
    return -(-dims // COLUMNS)


@lru_cache(maxsize=2)
def labels(nu: int) -> Int16[np.ndarray, "rows 96"]:
    """Labels shared by all models and images: a row for each of 2^(nu + 1) transitions."""
    key = shared_noise.make_key("labels", nu, COLUMNS)
    return shared_noise.normal(key, COLUMNS << (nu + 1)).reshape(-1, COLUMNS)


@lru_cache(maxsize=2)
def label_values(nu: int) -> tuple[Float[np.ndarray, "rows 96"], Float[np.ndarray, "rows 97"]]:
    """The labels as floats, and the cumulative sums of their squares along each row."""
    values = labels(nu) * np.float32(SCALE)
    sums = np.cumsum(np.pad(values**2, [(0, 0), (1, 0)]), axis=1)
    return values, sums


def make_branches(seed: tuple[bytes, int, int], dims: int, count: int, nu: int) -> Branches:
    """Derives the branches from the seed (model, nonce, step), for encoder and decoder alike."""

    def key(domain: str) -> tuple[int, int]:
        return shared_noise.make_key(*seed, domain)

    edges = np.arange(count + 1) * dims // count
    rows = np.full(count, 2 << nu)
    offsets = shared_noise.uniform_below(key("offset"), COLUMNS + 1 - np.diff(edges))
    return Branches(
        order=shared_noise.permutation(key("order"), dims),
        signs=shared_noise.signs(key("sign"), dims),
        edges=edges,
        masks=shared_noise.uniform_below(key("mask"), rows),
        offsets=offsets,
        nu=nu,
    )


def search(branches: Branches, mean: Float[np.ndarray, " d"], rho2: float) -> Bits:
    """Finds the path whose noise z maximizes log q/p, for q = N(mean, rho2) and p = N(0, 1)."""
    values, squares = label_values(branches.nu)
    states = 1 << branches.nu
    slope = ((mean * branches.signs)[branches.order] / rho2).astype(np.float32)
    curve = np.float32(0.5 - 0.5 / rho2)
    rows = np.arange(2 * states)
    metric = np.full(states, -np.inf, np.float32)
    metric[0] = 0.0
    dropped = np.empty((len(branches.masks), states // 8), np.uint8)
    for k, (mask, offset) in enumerate(zip(branches.masks, branches.offsets, strict=True)):
        first, last = branches.edges[k : k + 2]
        end = offset + last - first
        gain = values[:, offset:end] @ slope[first:last]
        gain += curve * (squares[:, end] - squares[:, offset])
        # From state (p, j >> 1) to state j: the leftmost bit p is dropped.
        gain = gain[rows ^ mask].reshape(2, states)
        gain += metric.reshape(2, -1).repeat(2, axis=1)
        dropped[k] = np.packbits(gain[1] > gain[0])
        metric = np.maximum(gain[0], gain[1])
    return trace_back(dropped, int(metric.argmax()), branches.nu)


def trace_back(dropped: UInt8[np.ndarray, "m s"], state: int, nu: int) -> Bits:
    """Returns the bits of the path that ends in 'state'."""
    bits = np.empty(len(dropped), np.uint8)
    for k in reversed(range(len(dropped))):
        bits[k] = state & 1
        left = (int(dropped[k, state >> 3]) >> (7 - (state & 7))) & 1
        state = (left << (nu - 1)) | (state >> 1)
    return bits


def noise(branches: Branches, path: Bits) -> Noise:
    """Returns the noise that a path stands for, Q12."""
    table, states = labels(branches.nu), 1 << branches.nu
    values = np.empty(len(branches.order), np.int64)
    state = 0
    for k, bit in enumerate(path.tolist()):
        # The row's number still has the bit that the state drops.
        row = ((state << 1) | bit) ^ int(branches.masks[k])
        state = ((state << 1) | bit) & (states - 1)
        first, last = branches.edges[k : k + 2]
        offset = branches.offsets[k]
        values[branches.order[first:last]] = table[row, offset : offset + last - first]
    return values * branches.signs
