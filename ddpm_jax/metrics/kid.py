"""The kernel distance of two clouds of vectors. Binkowski et al. 2018 (arXiv:1801.01401).

In Inception's space it is the KID. Its expectation does not depend on the number of images, where
the Frechet distance's falls with it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ddpm_jax.metrics import frechet


class KernelDistance(NamedTuple):
    """Over random subsets: their mean, their standard deviation, and what they were."""

    mean: float
    std: float
    subsets: int
    size: int  # images of each cloud in a subset: fewer than asked for if a cloud is smaller


def kernel(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """(x . y / d + 1)^3. Sec. 4."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def mmd(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy; it can be negative. Eq. 4."""

    def among(z):
        pairs = kernel(z, z)
        return (pairs.sum() - np.trace(pairs)) / (len(z) * (len(z) - 1))

    return float(among(x) + among(y) - 2.0 * kernel(x, y).mean())


def distance(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "m e"],
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
) -> KernelDistance:
    """The mean of 'mmd' over random subsets.

    Raises ValueError for different dimensions, NaN, infinity, or a cloud of fewer than two.
    """
    frechet.check_same_space(x.shape[1], y.shape[1])
    frechet.check_finite(x, "image features")
    frechet.check_finite(y, "reference features")
    size = min(size, len(x), len(y))
    if size < 2:
        raise ValueError(f"a kernel distance needs subsets of at least 2 images; they have {size}")
    # RandomState, whose stream numpy never changes: torch-fidelity's subsets, seed for seed.
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        a = x[rng.choice(len(x), size, replace=False)].astype(np.float64)
        b = y[rng.choice(len(y), size, replace=False)].astype(np.float64)
        values.append(mmd(a, b))
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, size)
