"""Conversion between grey levels and floating-point images, and random flips."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Real, UInt8

from ddpm_jax.diffusion import Images


def normalize(images: UInt8[Array, "b h w c"], levels: int) -> Images:
    """Maps grey levels 0..levels - 1 to [-1, 1], without dequantisation noise. Sec. 3.3."""
    return images.astype(jnp.float32) * (2.0 / (levels - 1)) - 1.0


def quantize(
    images: Float[np.ndarray, "b h w c"] | Images, levels: int
) -> UInt8[np.ndarray, "b h w c"]:
    """Rounds images in [-1, 1] to grey levels and maps those to 0..255, as files store them."""
    grey = np.round((np.clip(np.asarray(images), -1.0, 1.0) + 1.0) * (0.5 * (levels - 1)))
    return stretch(grey, levels)


def stretch(grey: Real[np.ndarray, "b h w c"], levels: int) -> UInt8[np.ndarray, "b h w c"]:
    """Maps grey levels 0..levels - 1 to 0..255, as files store them and feature spaces expect them."""
    return np.round(grey * (255.0 / (levels - 1))).astype(np.uint8)


def flip(images: Array, coin: Bool[Array, " b"]) -> Array:
    """Flips left to right the images whose coin is True."""
    return jnp.where(coin[:, None, None, None], images[:, :, ::-1], images)
