"""Processes of score-based SDEs, and a mixture of Gaussians that samplers are to draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import softmax

from ddpm_jax import diffusion, sde
from ddpm_jax.parameterization import Denoised
from ddpm_jax.samplers import loop

T = 100


PROCESSES = {
    "vp": sde.vp(T, 1e-3, 0.2),
    "sub_vp": sde.sub_vp(T, 1e-3, 0.2),
    "ve": sde.ve(T, 0.02, 20.0),
    "linear": diffusion.linear(T, 1e-3, 0.2),  # a chain of DDPM's
}


every_process = pytest.mark.parametrize("name", PROCESSES)


def some_now(*names, now):
    """Those that are compiled in every run of the tests; the others are slow."""
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in names if name not in now]
    return pytest.mark.parametrize("name", [*now, *slow])


def mixture(sched, means, stds, weights):
    """E[x_0 | x_t] of pixels drawn from a mixture of Gaussians."""

    def denoiser(x_t, t):
        signal, noise = diffusion.signal(sched, t), diffusion.sigma(sched, t) ** 2
        x, square = x_t[..., None], signal[..., None] ** 2 * stds**2 + noise[..., None]
        apart = x - signal[..., None] * means
        share = softmax(jnp.log(weights) - 0.5 * jnp.log(square) - 0.5 * apart**2 / square)
        guess = means + signal[..., None] * stds**2 / square * apart
        return Denoised((share * guess).sum(-1))

    return denoiser


MEANS, STDS, WEIGHTS = np.array([-0.6, 0.5]), np.array([0.1, 0.2]), np.array([0.3, 0.7])


def sampled(sched, sampler, times, count=64):
    denoiser = mixture(sched, MEANS, STDS, WEIGHTS)
    keys = loop.image_keys(jax.random.key(0), jnp.arange(count))
    make = loop.program(sched, sampler, lambda _: denoiser, times, (8, 8, 1), len(times))
    return np.asarray(make((), keys)).ravel()


def check_moments(x, slack=0.0):
    """Of 4096 pixels: mean, standard deviation, and the share of the left component."""
    mean = WEIGHTS @ MEANS
    std = np.sqrt(WEIGHTS @ (MEANS**2 + STDS**2) - mean**2)
    left = np.sqrt(WEIGHTS[0] * WEIGHTS[1])
    assert abs(x.mean() - mean) < 4 * std / 64 + slack
    assert abs(x.std() - std) < 3 * std / 64 + slack
    assert abs((x < -0.15).mean() - WEIGHTS[0]) < 4 * left / 64 + slack
    assert abs(x[x < -0.15].std() - STDS[0]) < 0.015 + slack
