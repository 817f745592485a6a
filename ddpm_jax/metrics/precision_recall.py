"""Improved precision and recall. Kynkaanniemi et al. 2019 (arXiv:1904.06991).

The manifold of a set of vectors is the union of balls around them, each reaching to the k-th nearest
other vector. Precision is the fraction of samples inside the data's manifold, recall the converse.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ddpm_jax.metrics import features
from ddpm_jax.metrics.features import Embedding
from ddpm_jax.metrics.metric import Metric, Value

CHUNK = 1000  # rows of a distance matrix in memory at a time
K = 3  # the paper's


class PrecisionRecall(NamedTuple):
    precision: float
    recall: float


def squared_distances(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> Iterator[Float64[np.ndarray, "chunk m"]]:
    """Yields distances from every row of x to every row of y, CHUNK rows of x at a time."""
    # float64, because a distance is a small difference of large squares
    y = y.astype(np.float64)
    y_norms = (y**2).sum(axis=1)
    for first in range(0, len(x), CHUNK):
        rows = x[first : first + CHUNK].astype(np.float64)
        norms = (rows**2).sum(axis=1, keepdims=True)
        yield np.maximum(norms + y_norms - 2.0 * rows @ y.T, 0.0)


def squared_radii(x: Float[np.ndarray, "n d"], k: int) -> Float64[np.ndarray, " n"]:
    """Squared distances from each vector to its k-th nearest neighbour. Eq. 1."""
    # A vector is nearest to itself, so its k-th neighbour has index k.
    return np.concatenate([np.partition(rows, k, axis=1)[:, k] for rows in squared_distances(x, x)])


def fraction_inside(
    x: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "m d"], k: int
) -> float:
    """The fraction of the rows of x that lie in some ball around a centre. Eq. 2."""
    radii = squared_radii(centres, k)
    inside = [(rows <= radii).any(axis=1) for rows in squared_distances(x, centres)]
    return float(np.concatenate(inside).mean())


def check(samples: Float[np.ndarray, "n d"], data: Float[np.ndarray, "m e"], k: int) -> None:
    """Raises ValueError for different dimensions, NaN, infinity, or a set of k vectors or fewer."""
    features.check_same_dimensions(samples.shape[1], data.shape[1])
    features.check_finite(samples, "image features")
    features.check_finite(data, "reference features")
    if min(len(samples), len(data)) <= k:
        raise ValueError(
            f"precision and recall with k = {k} need more than {k} images on each side;"
            f" there are {len(samples)} and {len(data)}"
        )


def precision_recall(
    samples: Float[np.ndarray, "n d"], data: Float[np.ndarray, "m e"], k: int = K
) -> PrecisionRecall:
    """Precision and recall of samples against data. Raises ValueError as 'check' does.

    The time is proportional to n m d: 50,000 against 50,000 vectors of 2048 dimensions take 4e13
    multiplications.
    """
    check(samples, data, k)
    return PrecisionRecall(
        precision=fraction_inside(samples, data, k), recall=fraction_inside(data, samples, k)
    )


def precision(samples: Embedding, reference: Embedding) -> Value | None:
    """Precision from the stored vectors, if both sets have them."""
    if samples.vectors is None or reference.vectors is None:
        return None
    check(samples.vectors, reference.vectors, K)
    inside = fraction_inside(samples.vectors, reference.vectors, K)
    return Value(inside, len(samples.vectors))


def recall(samples: Embedding, reference: Embedding) -> Value | None:
    """Recall from the stored vectors, if both sets have them."""
    if samples.vectors is None or reference.vectors is None:
        return None
    check(samples.vectors, reference.vectors, K)
    inside = fraction_inside(reference.vectors, samples.vectors, K)
    return Value(inside, len(samples.vectors))


PRECISION = Metric("precision", precision, higher_is_better=True, least=K + 1)
RECALL = Metric("recall", recall, higher_is_better=True, least=K + 1)
