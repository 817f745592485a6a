"""Spherical interpolation of latents: Song et al. 2021 (arXiv:2010.02502), Sec. 5.3."""

import numpy as np
from jaxtyping import Float


def slerp(
    one: Float[np.ndarray, "n h w c"],
    other: Float[np.ndarray, "n h w c"],
    alphas: Float[np.ndarray, " a"],
) -> Float[np.ndarray, "a n h w c"]:
    """Interpolates latents along a great circle, so that their norms stay typical of N(0, 1). Eq. 67."""
    flat = one.reshape(len(one), -1), other.reshape(len(other), -1)
    cosine = (flat[0] * flat[1]).sum(1) / np.prod([np.linalg.norm(x, axis=1) for x in flat], axis=0)
    theta = np.arccos(np.clip(cosine, -1.0, 1.0))[:, None, None, None]
    alphas = alphas[:, None, None, None, None]
    same = np.sin(theta) < 1e-6  # latents of one direction, between which the way is straight
    sine = np.where(same, 1.0, np.sin(theta))
    shares = np.sin((1.0 - alphas) * theta) / sine, np.sin(alphas * theta) / sine
    shares = np.where(same, 1.0 - alphas, shares[0]), np.where(same, alphas, shares[1])
    return (shares[0] * one + shares[1] * other).astype(np.float32)
