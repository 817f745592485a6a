"""How many samples are near copies of training images: Yoon et al. 2023; Gu et al. 2023 (arXiv:2310.02664).

A near copy is an image whose distance to the nearest training image is less than a third of that to the second
nearest. An image that occurs several times in the training set counts once there.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64

THRESHOLD = 1 / 3  # of the two distances' ratio
Ratios = Float64[np.ndarray, " n"]


def measure(distances: Float[np.ndarray, "n k"], samples: int) -> dict[str, Any] | None:
    """The share of near copies among the first images, the samples, and as a control among the others.

    Takes squared distances to the nearest training images, in this order, no two of which are equal. None if
    there are fewer than two of them.
    """
    if distances.shape[1] < 2:
        return None
    ratios = np.sqrt(distances[:, 0] / distances[:, 1])
    return {
        "share": share(ratios[:samples]),
        "images": samples,
        "threshold": THRESHOLD,
        "median_ratio": float(np.median(ratios[:samples])),
        "held_out_share": share(ratios[samples:]),
        "held_out_images": len(ratios) - samples,
    }


def share(ratios: Ratios) -> float | None:
    return float(np.mean(ratios < THRESHOLD)) if len(ratios) else None


def describe(found: dict[str, Any] | None) -> str:
    """Returns a measurement in words."""
    if found is None:
        return "near copies cannot be counted: all training images are equal"
    text = (
        f"near copies: {found['share']:.1%} of {found['images']} samples are more than three times as"
        " near to one training image as to any other"
    )
    if found["held_out_images"]:
        text += f"; {found['held_out_share']:.1%} of {found['held_out_images']} held-out images"
    return text
