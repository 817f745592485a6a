"""Resizes images to the Inception network's input, by one of two rules; files record which.

They differ by half a pixel and in the scaling, which changes the features of 32 x 32 images by 1.5%.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

SIZE = 299
Bytes = UInt8[Array, "b h w 3"]
Scaled = Float[Array, "b 299 299 3"]


def corners(n: int) -> Float32[np.ndarray, " 299"]:
    """Coordinates of 299 pixels among n in TensorFlow 1, whose grids share a corner."""
    return np.arange(SIZE, dtype=np.float32) * np.float32(n / SIZE)


def centres(n: int) -> Float32[np.ndarray, " 299"]:
    """Coordinates of 299 pixels among n in other libraries: pixels are squares, and grids share a centre."""
    scale = np.float32(n / SIZE)
    half = np.float32(0.5)
    return np.maximum((np.arange(SIZE, dtype=np.float32) + half) * scale - half, np.float32(0))


def interpolate(
    images: Float[Array, "b h w c"], places: Float32[np.ndarray, " 299"], axis: int
) -> Float[Array, "b h2 w2 c"]:
    """Interpolates linearly along an axis, repeating the last pixel; without antialiasing."""
    low = places.astype(np.int32)
    high = np.minimum(low + 1, images.shape[axis] - 1)
    shape = [1] * images.ndim
    shape[axis] = SIZE
    weight = (places - low.astype(np.float32)).reshape(shape)
    first, second = jnp.take(images, low, axis), jnp.take(images, high, axis)
    return first + (second - first) * weight


def ttur(images: Bytes) -> Scaled:
    """The graph's own rule, used by TTUR's, OpenAI's and torch-fidelity's code."""
    pixels = interpolate(images.astype(jnp.float32), corners(images.shape[2]), 2)
    pixels = interpolate(pixels, corners(images.shape[1]), 1)
    return (pixels - 128.0) / 128.0


def pytorch(images: Bytes) -> Scaled:
    """pytorch-fid's rule."""
    pixels = interpolate(images.astype(jnp.float32) / 255.0, centres(images.shape[2]), 2)
    pixels = interpolate(pixels, centres(images.shape[1]), 1)
    return 2.0 * pixels - 1.0


RULES = {"ttur": ttur, "pytorch": pytorch}
