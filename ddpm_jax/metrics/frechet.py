"""The Frechet distance between two sets of vectors, each modelled as a Gaussian. Heusel et al. 2017.

In Inception's features it is the FID. Everything is float64 on the host: accelerators have no
float64, and the trace of the square root of a 2048 x 2048 matrix needs it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ddpm_jax.metrics import features
from ddpm_jax.metrics.features import Embedding, Statistics
from ddpm_jax.metrics.metric import Metric, Value

CHUNK = 4096  # rows converted to float64 at a time


class Sums(NamedTuple):
    """Running sums over vectors, from which their statistics follow."""

    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    total: Float64[np.ndarray, " d"]
    outer: Float64[np.ndarray, "d d"]  # sum of v v^T


def empty(dimensions: int) -> Sums:
    """The sums over no vectors."""
    return Sums(0, np.zeros(dimensions), np.zeros((dimensions, dimensions)))


def add(sums: Sums, vectors: Float[np.ndarray, "n d"]) -> Sums:
    """Adds vectors to the sums. Raises ValueError for other dimensions, NaN or infinity."""
    if vectors.shape[1] != len(sums.total):
        raise ValueError(
            f"vectors of {vectors.shape[1]} dimensions among ones of {len(sums.total)}"
        )
    features.check_finite(vectors, "image features")
    total, outer = sums.total.copy(), sums.outer.copy()
    for first in range(0, len(vectors), CHUNK):
        rows = vectors[first : first + CHUNK].astype(np.float64)
        total += rows.sum(axis=0)
        outer += rows.T @ rows
    return Sums(sums.count + len(vectors), total, outer)


def combine(a: Sums, b: Sums) -> Sums:
    """The sums over the vectors of both. Raises ValueError for different dimensions."""
    features.check_same_dimensions(len(a.total), len(b.total))
    return Sums(a.count + b.count, a.total + b.total, a.outer + b.outer)


def finish(sums: Sums) -> Statistics:
    """Mean and covariance. Raises ValueError for fewer than two vectors."""
    if sums.count < 2:
        raise ValueError(f"a covariance needs at least 2 images; there are {sums.count}")
    mean = sums.total / sums.count
    scatter = sums.outer - sums.count * np.outer(mean, mean)
    return Statistics(mean, scatter / (sums.count - 1), sums.count)


def statistics(vectors: Float[np.ndarray, "n d"]) -> Statistics:
    """Mean and covariance of vectors. Raises ValueError as 'add' and 'finish' do."""
    return finish(add(empty(vectors.shape[1]), vectors))


def distance(a: Statistics, b: Statistics) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). Heusel et al. 2017, Eq. 6, as in TTUR.

    The trace of the root is the sum of the square roots of the eigenvalues of C_a C_b. With fewer
    images than dimensions this agrees with TTUR's sqrtm, whereas roots of symmetric matrices drift
    (2e-5). Rounding can leave a zero distance slightly negative. Raises ValueError for different
    dimensions.
    """
    features.check_same_dimensions(len(a.mean), len(b.mean))
    eigenvalues = np.linalg.eigvals(a.covariance @ b.covariance)
    # A product of semidefinite matrices has no eigenvalue below 0: a negative one is rounding, its
    # root is imaginary, and taking the real part drops it.
    trace = np.real(np.sqrt(eigenvalues.astype(np.complex128))).sum()
    shift = a.mean - b.mean
    return float(shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * trace)


def embedding_distance(samples: Embedding, reference: Embedding) -> Value:
    """The distance over all images."""
    a, b = samples.statistics, reference.statistics
    return Value(distance(a, b), a.count)


def spatial_distance(samples: Embedding, reference: Embedding) -> Value | None:
    """The distance of spatial features, if the space has them: Nash et al. 2021's sFID."""
    if samples.spatial is None or reference.spatial is None:
        return None
    return Value(distance(samples.spatial, reference.spatial), samples.statistics.count)


FRECHET = Metric("frechet", embedding_distance, higher_is_better=False, inception_name="fid")
SPATIAL = Metric(
    name="sfrechet",
    function=spatial_distance,
    higher_is_better=False,
    inception_name="sfid",
    feature="spatial",
)
