"""Feature spaces: every metric takes the features of images, from any function of them.

Distances in different spaces cannot be compared, so the space's name is part of a metric's name in
files, and whatever else decides the features (weights, resize rule) is recorded with the statistics.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

Bytes = UInt8[np.ndarray, "n h w c"]
Vectors = Float32[np.ndarray, "n d"]


class Features(NamedTuple):
    """The features of images, one row per image."""

    vectors: Vectors
    logits: Float32[np.ndarray, "n k"] | None = None  # a classifier's; for the Inception Score
    spatial: Float32[np.ndarray, "n s"] | None = None  # a feature map, flattened; for spatial FID


class Space(NamedTuple):
    """A feature space; 'features' takes any number of uint8 images, with grey levels 0..255."""

    name: str  # "inception", "classifier", "pixels"
    settings: dict[str, Any]  # what else decides the vectors, as JSON types
    features: Callable[[Bytes], Features]


class Statistics(NamedTuple):
    """Mean and covariance (n - 1) of 'count' vectors; count is 0 where a foreign file omits it."""

    mean: Float64[np.ndarray, " d"]
    covariance: Float64[np.ndarray, "d d"]
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]


class Embedding(NamedTuple):
    """Feature statistics of an image set, with the raw features of a subset."""

    statistics: Statistics
    spatial: Statistics | None = None
    vectors: Float[np.ndarray, "n d"] | None = None  # None where a file has statistics only
    inception_score: tuple[float, float] | None = None  # mean and standard deviation
    record: dict[str, Any] | None = None  # space, settings and data, from our own files


def pixels() -> Space:
    """The pixels themselves, scaled to 0..1: distances that a closed form can check."""

    def features(images: Bytes) -> Features:
        return Features(images.reshape(len(images), -1).astype(np.float32) / 255.0)

    return Space("pixels", {}, features)


def concatenate(parts: Sequence[Features]) -> Features:
    """Joins the features of batches; a field that they lack stays None."""
    logits = [part.logits for part in parts if part.logits is not None]
    spatial = [part.spatial for part in parts if part.spatial is not None]
    return Features(
        vectors=np.concatenate([part.vectors for part in parts]),
        logits=np.concatenate(logits) if logits else None,
        spatial=np.concatenate(spatial) if spatial else None,
    )


def check_finite(vectors: Float[np.ndarray, "n d"], what: str) -> None:
    """Raises ValueError, with the number of the first bad row, if any row has NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{what}: {len(bad)} of {len(vectors)} are not finite, the first is number {bad[0]}"
        )


def check_same_dimensions(a: int, b: int) -> None:
    """Raises ValueError if the vectors of two image sets differ in dimensions."""
    if a != b:
        raise ValueError(f"vectors of {a} and of {b} dimensions; they are not of one space")
