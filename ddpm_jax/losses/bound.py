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

# (x_0, mean, log-variance, grey levels) -> log p(x_0) of each pixel, in nats
LogLikelihood = Callable[[Images, Array, Array, int], Images]
Values = Float[Array | np.ndarray, " b"]


def mean_over_pixels(values: Images) -> PerImage:
    """Averages over height, width and channels."""
    return values.mean(axis=(1, 2, 3))


def bits_per_dim(nats: Images) -> PerImage:
    return mean_over_pixels(nats) / math.log(2.0)


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
    """L_{t-1} in bits/dim: a KL divergence for t > 1, the decoder's -log p(x_0 | x_1) at t = 1. Eqs. 5 and 13.

    The bound is the sum of it over t = 1..T, plus prior_term.
    """
    s = t - 1
    mean, log_variance = parameterization.reverse(sched, variance, out, x_t, t, s)
    posterior_mean = diffusion.q_posterior_mean(sched, x_0, x_t, t, s)
    posterior_log_variance = parameterization.fixed_small(sched, out, t, s)
    kl = diffusion.normal_kl(posterior_mean, posterior_log_variance, mean, log_variance)
    decoder = -log_likelihood(x_0, mean, log_variance, levels)
    is_first = (t == 1)[:, None, None, None]
    return bits_per_dim(jnp.where(is_first, decoder, kl))


def prior_term(sched: Schedule, x_0: Images) -> PerImage:
    """L_T in bits/dim. Eq. 5."""
    return bits_per_dim(diffusion.prior_kl(sched, x_0))


class Bound(NamedTuple):
    """The bound of each image, in bits/dim: L_T, and L_{t-1} summed over each stratum of t.

    'mse' is the mean squared error of x_0-hat over an image on [-1, 1], at the t drawn from each stratum.
    """

    prior: Values
    terms: Float[Array | np.ndarray, "b s"]
    mse: Float[Array | np.ndarray, "b s"]

    @property
    def distortion(self) -> Values:
        """L_0, the bits that describe x_0 given x_1. Sec. 4.3."""
        return self.terms[:, 0]

    @property
    def rate(self) -> Values:
        """L_1 + ... + L_T, the bits that describe x_1. Sec. 4.3."""
        return self.prior + self.terms[:, 1:].sum(axis=1)

    @property
    def total(self) -> Values:
        return self.rate + self.distortion


class Strata(NamedTuple):
    """Runs of consecutive t, each represented by one t drawn per image."""

    first: Int[np.ndarray, " s"]
    size: Int[np.ndarray, " s"]


def strata(T: int, steps: int) -> Strata:
    """Splits 1..T into 'steps' strata: t = 1 alone, and t = 2..T in runs as equal as possible.

    steps = T evaluates every term. Raises ValueError unless 2 <= steps <= T.
    """
    if not 2 <= steps <= T:
        raise ValueError(f"eval.steps is {steps}; it must lie between 2 and T = {T}")
    runs = np.array_split(np.arange(2, T + 1), steps - 1)
    return Strata(
        first=np.array([1, *(run[0] for run in runs)]),
        size=np.array([1, *(len(run) for run in runs)]),
    )


def bound(
    sched: Schedule,
    variance: Variance,
    denoiser: Denoiser,
    x_0: Images,
    keys: Key[Array, " b"],
    strata: Strata,
    levels: int,
) -> Bound:
    """Estimates each image's bound without bias, from one draw of x_t per stratum.

    'keys' holds one key per image. The authors' release clips x_0, so the denoiser should too.
    """
    first, size = jnp.asarray(strata.first), jnp.asarray(strata.size)

    def draw(key, j):
        key_t, key_eps = jax.random.split(jax.random.fold_in(key, j))
        t = first[j] + jax.random.randint(key_t, (), 0, size[j])
        return t, jax.random.normal(key_eps, x_0.shape[1:])

    def term(j):
        t, eps = jax.vmap(draw, (0, None))(keys, j)
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        out = denoiser(x_t, t)
        bits = bound_term(sched, variance, out, x_0, x_t, t, levels)
        return size[j] * bits, mean_over_pixels((out.x_0 - x_0) ** 2)

    terms, mse = jax.lax.map(term, jnp.arange(len(strata.first)))
    return Bound(prior=prior_term(sched, x_0), terms=terms.T, mse=mse.T)
