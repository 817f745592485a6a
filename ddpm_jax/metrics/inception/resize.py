"""Bytes of any size to what the Inception network takes; two rules, and a score says which.

They differ by half a pixel and by the scaling, and move the features of 32 x 32 images by 1.5%.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

SIZE = 299
Bytes = UInt8[Array, "b h w 3"]
Scaled = Float[Array, "b 299 299 3"]


def corners(n: int) -> Float32[np.ndarray, " 299"]:
    """Where TensorFlow 1 reads each of 299 pixels among n: both grids begin at one corner."""
    return np.arange(SIZE, dtype=np.float32) * np.float32(n / SIZE)


def centres(n: int) -> Float32[np.ndarray, " 299"]:
    """Where everybody else does: pixels are squares, and the grids have one centre."""
    scale = np.float32(n / SIZE)
    half = np.float32(0.5)
    return np.maximum((np.arange(SIZE, dtype=np.float32) + half) * scale - half, np.float32(0))


def between(
    images: Float[Array, "b h w c"], places: Float32[np.ndarray, " 299"], axis: int
) -> Float[Array, "b h2 w2 c"]:
    """Linear interpolation along an axis, the last pixel repeated; shrinking does not average."""
    low = places.astype(np.int32)
    high = np.minimum(low + 1, images.shape[axis] - 1)
    shape = [1] * images.ndim
    shape[axis] = SIZE
    weight = (places - low.astype(np.float32)).reshape(shape)
    first, second = jnp.take(images, low, axis), jnp.take(images, high, axis)
    return first + (second - first) * weight


def ttur(images: Bytes) -> Scaled:
    """What the graph itself does with bytes, in TTUR's, OpenAI's and torch-fidelity's code."""
    pixels = images.astype(jnp.float32)
    pixels = between(between(pixels, corners(images.shape[2]), 2), corners(images.shape[1]), 1)
    return (pixels - 128.0) / 128.0


def pytorch(images: Bytes) -> Scaled:
    """pytorch-fid's."""
    pixels = images.astype(jnp.float32) / 255.0
    pixels = between(between(pixels, centres(images.shape[2]), 2), centres(images.shape[1]), 1)
    return 2.0 * pixels - 1.0


RULES = {"ttur": ttur, "pytorch": pytorch}
