"""A source of images whose best denoiser is known: Gaussian, independent in a cosine basis, smooth like pictures.

With it a codec can be judged without a trained network.
"""

import numpy as np
from scipy import fft

from ddpm_jax import diffusion
from ddpm_jax.codec import calibration
from ddpm_jax.codec.model import Codec

SCHED = diffusion.linear(1000, 1e-4, 0.02)
LEVELS = 256


def spectrum(shape):
    """The variance of every coefficient; a pixel's is 0.08 on average, on [-1, 1]."""
    rows, columns = (np.arange(size)[:, None] / size for size in shape[:2])
    falling = 1.0 / (0.002 + rows**2 + columns.T**2) ** 1.9
    return np.broadcast_to(0.08 * falling[..., None] / falling.mean(), shape)


def images(shape, count, seed=0):
    random = np.random.default_rng(seed)
    scaled = random.normal(size=(count, *shape)) * np.sqrt(spectrum(shape))
    x = fft.idctn(scaled, axes=(1, 2), norm="ortho")
    return np.clip(np.round((x + 1.0) * (0.5 * (LEVELS - 1))), 0, LEVELS - 1).astype(np.uint8)


def predict(x_t, t, spectral=None):
    """E[x_0 | x_t], clipped."""
    variance, abar = spectrum(x_t.shape) if spectral is None else spectral, SCHED.alpha_bar[t]
    gain = np.sqrt(abar) * variance / (abar * variance + 1.0 - abar)
    return np.clip(
        fft.idctn(gain * fft.dctn(x_t, axes=(0, 1), norm="ortho"), axes=(0, 1), norm="ortho"),
        -1.0,
        1.0,
    )


def error(shape):
    """E|x_0 - E[x_0 | x_t]|^2 a pixel, at t = 1..T."""
    variance, abar = spectrum(shape).reshape(-1, 1), SCHED.alpha_bar[1:]
    return ((1.0 - abar) * variance / (abar * variance + 1.0 - abar)).mean(axis=0)


def codec(shape, name=b"gaussian", predict=predict):
    plan = calibration.plan_steps(SCHED, error(shape), int(np.prod(shape)))
    return Codec(shape, LEVELS, plan, name, predict, np.sqrt(SCHED.alpha_bar))
