"""Grey levels to numbers and back, and the flip."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Real, UInt8

from ddpm_jax.diffusion import Images


def normalize(images: UInt8[Array, "b h w c"], levels: int) -> Images:
    """Grey levels 0..levels - 1 to -1..1; no dequantisation noise. Sec. 3.3."""
    return images.astype(jnp.float32) * (2.0 / (levels - 1)) - 1.0


def quantize(
    images: Float[np.ndarray, "b h w c"] | Images, levels: int
) -> UInt8[np.ndarray, "b h w c"]:
    """-1..1 to the nearest grey level, then stretched to 0..255: what is written to files."""
    grey = np.round((np.clip(np.asarray(images), -1.0, 1.0) + 1.0) * (0.5 * (levels - 1)))
    return stretch(grey, levels)


def stretch(grey: Real[np.ndarray, "b h w c"], levels: int) -> UInt8[np.ndarray, "b h w c"]:
    """Grey levels 0..levels - 1 to 0..255, as they are written to files and seen by feature spaces."""
    return np.round(grey * (255.0 / (levels - 1))).astype(np.uint8)


def flip(images: Array, coin: Bool[Array, " b"]) -> Array:
    """Mirrors left to right the images whose coin is true."""
    return jnp.where(coin[:, None, None, None], images[:, :, ::-1], images)
