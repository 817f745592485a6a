"""Arrays that come from a user: checked, and converted between 0..255 and a model's grey levels."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from ddpm_jax.datasets import pixels
from ddpm_jax.run.model import Model

Levels = UInt8[np.ndarray, "n h w c"]
Floats = Float32[np.ndarray, "n h w c"]


def grey_levels(model: Model, images: Any) -> Levels:
    """Returns the grey levels of images in 0..255, [n, h, w, c] or a single one.

    Raises ValueError for another shape or type, or for a value between two of the model's grey levels.
    """
    array = check_shape(model, images, "images")
    if array.dtype != np.uint8:
        raise ValueError(f"images are {array.dtype}; they must be uint8, 0..255")
    table = pixels.stretch(np.arange(model.levels)[None, None, None], model.levels).reshape(-1)
    levels = np.minimum(np.searchsorted(table, array), model.levels - 1).astype(np.uint8)
    wrong = array[table[levels] != array]
    if len(wrong):
        shown = f"{table[0]}, {table[1]}, ... {table[-1]}"
        raise ValueError(
            f"images have the value {wrong[0]}; this model's {model.levels} grey levels are {shown}"
        )
    return levels


def normalize(model: Model, images: Any) -> Floats:
    """Returns images in 0..255 on [-1, 1]. Raises ValueError as 'grey_levels' does."""
    return np.asarray(pixels.normalize(jnp.asarray(grey_levels(model, images)), model.levels))


def floats(model: Model, x_t: Any, name: str) -> Floats:
    """Returns x_t or latents as float32 [n, h, w, c]. Raises ValueError for another shape or type."""
    array = check_shape(model, x_t, name)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name} is {array.dtype}; it must be float, with data in [-1, 1]")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    return array.astype(np.float32)


def check_shape(model: Model, images: Any, name: str) -> np.ndarray:
    """Returns an array [n, h, w, c] of one or more images. Raises ValueError for another shape."""
    array = np.asarray(images)
    if array.shape == model.shape:
        array = array[None]
    if array.shape[1:] != model.shape or not len(array):
        shape = ", ".join(map(str, model.shape))
        raise ValueError(f"{name} has shape {array.shape}; this model's images are [n, {shape}]")
    return array
