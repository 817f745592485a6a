"""The variational bound and its terms: Sections 2, 3.3 and 4.3."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ddpm_jax import diffusion, parameterization
from ddpm_jax.diffusion import Images, PerImage, Schedule, Steps
from ddpm_jax.parameterization import Denoised, Denoiser, Variance

LogLikelihood = Callable[[Images, Array, Array, int], Images]


def per_image(values: Images) -> PerImage:
    return values.mean(axis=(1, 2, 3))


def bits_per_dim(nats: Images) -> PerImage:
    return per_image(nats) / math.log(2.0)


def bound_term(
    sched: Schedule,
    variance: Variance,
    out: Denoised,
    x_0: Images,
    x_t: Images,
    t: Steps,
    levels: int,
    log_likelihood: LogLikelihood = diffusion.discretized_log_likelihood,
) -> PerImage:
    """L_{t-1} in bits/dim: for t > 1 a KL divergence, at t = 1 the decoder. Eqs. 5 and 13.

    Its sum over t = 1..T, with prior_term, is the bound.
    """
    s = t - 1
    mean, log_variance = parameterization.reverse(sched, variance, out, x_t, t, s)
    posterior_mean = diffusion.q_posterior_mean(sched, x_0, x_t, t, s)
    posterior = parameterization.fixed_small(sched, out, t, s)
    kl = diffusion.normal_kl(posterior_mean, posterior, mean, log_variance)
    decoder = -log_likelihood(x_0, mean, log_variance, levels)
    first = (t == 1)[:, None, None, None]
    return bits_per_dim(jnp.where(first, decoder, kl))


def prior_term(sched: Schedule, x_0: Images) -> PerImage:
    """L_T in bits/dim. Eq. 5."""
    return bits_per_dim(diffusion.prior_kl(sched, x_0))


class Bound(NamedTuple):
    """Of each image, in bits/dim: L_T, and L_0, L_1, ..., L_{T-1} summed over each stratum.

    'mse' is the squared error of x_0-hat given x_t, mean over the pixels on [-1, 1], t as in 'terms'.
    """

    prior: PerImage
    terms: Float[Array | np.ndarray, "b s"]
    mse: Float[Array | np.ndarray, "b s"]

    @property
    def distortion(self):
        """L_0: what it takes to know x_0 once x_1 is known. Sec. 4.3."""
        return self.terms[:, 0]

    @property
    def rate(self):
        """L_1 + ... + L_T: what it takes to know x_1. Sec. 4.3."""
        return self.prior + self.terms[:, 1:].sum(axis=1)

    @property
    def total(self):
        return self.rate + self.distortion


class Strata(NamedTuple):
    """Runs of consecutive steps; each is stood for by one of its steps, drawn per image."""

    first: Int[np.ndarray, " s"]
    size: Int[np.ndarray, " s"]


def strata(T: int, steps: int) -> Strata:
    """t = 1 by itself, and t = 2..T in 'steps' - 1 runs as equal as can be; steps = T is all of them.

    Raises ValueError unless 2 <= steps <= T.
    """
    if not 2 <= steps <= T:
        raise ValueError(f"eval.steps is {steps}; it must lie between 2 and T = {T}")
    runs = np.array_split(np.arange(2, T + 1), steps - 1)
    return Strata(
        np.array([1, *(run[0] for run in runs)]), np.array([1, *(len(run) for run in runs)])
    )


def bound(
    sched: Schedule,
    variance: Variance,
    denoiser: Denoiser,
    x_0: Images,
    keys: Key[Array, " b"],
    chosen: Strata,
    levels: int,
) -> Bound:
    """An unbiased estimate of each image's bound, one draw of x_t a stratum.

    With a denoiser that clips x_0 it is the release's figure. Keys are one an image.
    """
    first, size = jnp.asarray(chosen.first), jnp.asarray(chosen.size)

    def draw(key, j):
        key_t, key_eps = jax.random.split(jax.random.fold_in(key, j))
        t = first[j] + jax.random.randint(key_t, (), 0, size[j])
        return t, jax.random.normal(key_eps, x_0.shape[1:])

    def term(j):
        t, eps = jax.vmap(draw, (0, None))(keys, j)
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        out = denoiser(x_t, t)
        bits = bound_term(sched, variance, out, x_0, x_t, t, levels)
        return size[j] * bits, per_image((out.x_0 - x_0) ** 2)

    terms, mse = jax.lax.map(term, jnp.arange(len(chosen.first)))
    return Bound(prior_term(sched, x_0), terms.T, mse.T)
