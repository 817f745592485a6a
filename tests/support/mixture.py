"""A mixture of three normals whose score is known, noised by a chain."""

import jax
import jax.numpy as jnp

from ddpm_jax import diffusion
from ddpm_jax.parameterization import Denoised

SCHED = diffusion.linear(50, 0.01, 0.2)


CENTRES, WIDTH, PARTS = jnp.array([-0.6, 0.1, 0.7]), 0.3, jnp.array([0.2, 0.5, 0.3])


def log_p(x_t, t, label):
    """log q(x_t) of one value from a mixture of normals, or of its part 'label'."""
    signal, sigma = (f(SCHED, t[None])[0, 0, 0, 0] for f in (diffusion.signal, diffusion.sigma))
    each = jax.scipy.stats.norm.logpdf(
        x_t, signal * CENTRES, jnp.sqrt((signal * WIDTH) ** 2 + sigma**2)
    )
    return jax.nn.logsumexp(each + jnp.log(PARTS)) if label is None else each[label]


def denoiser(label):
    """E[x_0 | x_t], by Tweedie's formula from the score."""

    def denoise(x_t, t):
        score = jax.vmap(jax.grad(log_p), (0, 0, None))(x_t.ravel(), t, label).reshape(x_t.shape)
        variance = diffusion.sigma(SCHED, t) ** 2
        return Denoised((x_t + variance * score) / diffusion.signal(SCHED, t))

    return denoise
