"""Spaces of features: the same distances run on any function from images to vectors.

A distance in one space says nothing about another's, so the space's name is part of a score's name,
and what else decides the vectors (weights, resize rule) is recorded with every statistic.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

Bytes = UInt8[np.ndarray, "n h w c"]
Vectors = Float32[np.ndarray, "n d"]


class Features(NamedTuple):
    """What a space says about images, a row each."""

    vectors: Vectors
    logits: Float32[np.ndarray, "n k"] | None = None  # of a classifier; for the Inception Score
    spatial: Float32[np.ndarray, "n s"] | None = None  # of places in the image; for spatial FID


class Space(NamedTuple):
    """'features' takes uint8 images, 0..255 whatever their grey levels, in batches of any size."""

    name: str  # "inception", "classifier", "pixels"
    settings: dict[str, Any]  # what else decides the vectors; JSON's types
    features: Callable[[Bytes], Features]


def pixels() -> Space:
    """The pixels themselves, 0..1: distances that a closed form can check."""

    def features(images: Bytes) -> Features:
        return Features(images.reshape(len(images), -1).astype(np.float32) / 255.0)

    return Space("pixels", {}, features)
