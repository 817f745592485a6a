"""The Frechet distance of two clouds of vectors, each taken for a Gaussian. Heusel et al. 2017.

In Inception's space it is the FID. Everything is float64 on the host: an accelerator has no float64,
and the trace of a square root of 2048 x 2048 numbers wants it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

CHUNK = 4096  # rows that are turned into float64 at a time


class Statistics(NamedTuple):
    """Mean and covariance (n - 1) of 'count' vectors; count 0 where a foreign file leaves it out."""

    mean: Float64[np.ndarray, " d"]
    covariance: Float64[np.ndarray, "d d"]
    count: int


class Sums(NamedTuple):
    """What is left of vectors that nobody need hold any longer."""

    count: int
    total: Float64[np.ndarray, " d"]
    outer: Float64[np.ndarray, "d d"]  # sum of v v^T


def nothing(dimensions: int) -> Sums:
    """The sums over no vectors."""
    return Sums(0, np.zeros(dimensions), np.zeros((dimensions, dimensions)))


def check_finite(vectors: Float[np.ndarray, "n d"], what: str) -> None:
    """Raises ValueError, with the first one's number, if some vectors have NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{what}: {len(bad)} of {len(vectors)} are not finite, the first is number {bad[0]}"
        )


def add(sums: Sums, vectors: Float[np.ndarray, "n d"]) -> Sums:
    """The sums with more vectors. Raises ValueError for other dimensions, NaN or infinity."""
    if vectors.shape[1] != len(sums.total):
        raise ValueError(
            f"vectors of {vectors.shape[1]} dimensions among ones of {len(sums.total)}"
        )
    check_finite(vectors, "image features")
    total, outer = sums.total.copy(), sums.outer.copy()
    for first in range(0, len(vectors), CHUNK):
        rows = vectors[first : first + CHUNK].astype(np.float64)
        total += rows.sum(axis=0)
        outer += rows.T @ rows
    return Sums(sums.count + len(vectors), total, outer)


def combine(a: Sums, b: Sums) -> Sums:
    """The sums over the vectors of both. Raises ValueError for different dimensions."""
    check_same_space(len(a.total), len(b.total))
    return Sums(a.count + b.count, a.total + b.total, a.outer + b.outer)


def finish(sums: Sums) -> Statistics:
    """Raises ValueError if there are fewer than two vectors: one has no covariance."""
    if sums.count < 2:
        raise ValueError(f"a covariance needs at least 2 images; there are {sums.count}")
    mean = sums.total / sums.count
    scatter = sums.outer - sums.count * np.outer(mean, mean)
    return Statistics(mean, scatter / (sums.count - 1), sums.count)


def statistics(vectors: Float[np.ndarray, "n d"]) -> Statistics:
    """All at once. Raises ValueError as 'add' and 'finish' do."""
    return finish(add(nothing(vectors.shape[1]), vectors))


def check_same_space(a: int, b: int) -> None:
    if a != b:
        raise ValueError(f"vectors of {a} and of {b} dimensions; they are not of one space")


def distance(a: Statistics, b: Statistics) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). Heusel et al. 2017, Eq. 6, as TTUR has it.

    The root's trace is the sum of the roots of the eigenvalues of C_a C_b. With fewer images than
    dimensions that agrees with TTUR's sqrtm where roots of symmetric matrices drift (2e-5). Rounding
    can leave a distance of zero a little below it. Raises ValueError for different dimensions.
    """
    check_same_space(len(a.mean), len(b.mean))
    eigenvalues = np.linalg.eigvals(a.covariance @ b.covariance)
    # Products of semidefinite matrices have none below 0: what is there is rounding, its root
    # imaginary, and the real part drops it.
    trace = np.sqrt(eigenvalues.astype(np.complex128)).real.sum()
    shift = a.mean - b.mean
    return float(shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * trace)
