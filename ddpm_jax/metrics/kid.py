"""The kernel distance between two sets of vectors. Binkowski et al. 2018 (arXiv:1801.01401).

In Inception's features it is the KID. Its expectation does not depend on the number of images,
whereas that of the Frechet distance falls with it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ddpm_jax.metrics import features
from ddpm_jax.metrics.features import Embedding
from ddpm_jax.metrics.metric import Metric, Value


class KernelDistance(NamedTuple):
    """Mean and standard deviation over random subsets, with their number and size.

    If both sets are their only subset, there is no deviation.
    """

    mean: float
    std: float | None
    subsets: int
    size: int  # images of each set in a subset: fewer than requested if a set is smaller


def kernel(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """(x . y / d + 1)^3. Sec. 4."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def mmd(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy; it can be negative. Eq. 4."""

    def within(z: Float64[np.ndarray, "k d"]) -> float:
        pairs = kernel(z, z)
        return (pairs.sum() - np.trace(pairs)) / (len(z) * (len(z) - 1))

    return float(within(x) + within(y) - 2.0 * kernel(x, y).mean())


def distance(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "m e"],
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
) -> KernelDistance:
    """The mean of 'mmd' over random subsets.

    Raises ValueError for different dimensions, NaN, infinity, or a set of fewer than two vectors.
    """
    features.check_same_dimensions(x.shape[1], y.shape[1])
    features.check_finite(x, "image features")
    features.check_finite(y, "reference features")
    size = min(size, len(x), len(y))
    if size < 2:
        raise ValueError(f"a kernel distance needs subsets of at least 2 images; they have {size}")
    if size == len(x) == len(y):
        mean = mmd(x.astype(np.float64), y.astype(np.float64))
        return KernelDistance(mean, std=None, subsets=1, size=size)
    # RandomState, whose stream numpy never changes: torch-fidelity's subsets, seed for seed.
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        a = x[rng.choice(len(x), size, replace=False)].astype(np.float64)
        b = y[rng.choice(len(y), size, replace=False)].astype(np.float64)
        values.append(mmd(a, b))
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, size)


def embedding_distance(samples: Embedding, reference: Embedding) -> Value | None:
    """The distance between the stored vectors, if both sets have them."""
    if samples.vectors is None or reference.vectors is None:
        return None
    result = distance(samples.vectors, reference.vectors)
    return Value(result.mean, len(samples.vectors), result.std)


KID = Metric("kid", embedding_distance, higher_is_better=False)
