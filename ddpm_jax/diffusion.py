"""The forward process and its Gaussian algebra: Ho et al. 2020, Sections 2 and 3.1-3.3.

Time runs over t = 1..T and t = 0 is data, so every table has T + 1 entries and alpha_bar[0] == 1.
A transition goes from t to any earlier s; s = t - 1 is the paper's chain. The marginals q(x_t | x_0) are
also defined between whole t. Every function here is pure, and takes its noise as an array.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Float64, Int, Real

Images = Float[Array, "b h w c"]
Steps = Int[Array, " b"]
Times = Real[Array, " b"]  # whole t, like Steps, or floats between them
PerImage = Float[Array, " b"]
Coefficient = Float[Array, "b 1 1 1"]
Numbers = Array | np.ndarray | np.floating | float


class Schedule(NamedTuple):
    """A variance schedule: float64 tables over t = 0..T, cast to float32 after a lookup."""

    beta: Float64[np.ndarray, " n"]
    alpha_bar: Float64[np.ndarray, " n"]
    # The factor from x_t to its process's own coordinates, which only 'sde' uses; None is 1.
    scale: Float64[np.ndarray, " n"] | None = None

    @property
    def T(self) -> int:
        return len(self.beta) - 1


def schedule(beta: Float64[np.ndarray, " T"]) -> Schedule:
    """Returns the tables for the variances beta_1..beta_T.

    Raises ValueError if T < 2 or a variance is outside (0, 1).
    """
    if len(beta) < 2:
        raise ValueError(f"diffusion.schedule.T is {len(beta)}; a chain needs at least 2 steps")
    if not np.all((beta > 0.0) & (beta < 1.0)):
        raise ValueError(
            f"every beta must lie strictly between 0 and 1; got {beta.min()} to {beta.max()}"
        )
    beta = np.concatenate([[0.0], beta])
    # float64: a product of 1000 factors near one loses digits in float32
    return Schedule(beta=beta, alpha_bar=np.cumprod(1.0 - beta))


def linear(T: int, beta_1: float, beta_T: float) -> Schedule:
    """Evenly spaced variances from beta_1 to beta_T: the paper's choice, Sec. 4."""
    return schedule(np.linspace(beta_1, beta_T, T, dtype=np.float64))


def quadratic(T: int, beta_1: float, beta_T: float) -> Schedule:
    """Evenly spaced square roots of the variances, one of the three schedules of Sec. 4."""
    return schedule(np.linspace(beta_1**0.5, beta_T**0.5, T, dtype=np.float64) ** 2)


def constant(T: int, beta_T: float) -> Schedule:
    """beta_T at every step, one of the three schedules of Sec. 4."""
    return schedule(np.full(T, beta_T, dtype=np.float64))


def cosine(T: int) -> Schedule:
    """A squared cosine for alpha_bar: Nichol and Dhariwal 2021 (arXiv:2102.09672), Eq. 17.

    Their offset s = 0.008 and their limit beta <= 0.999.
    """
    angle = (np.arange(T + 1, dtype=np.float64) / T + 0.008) / 1.008 * (0.5 * np.pi)
    alpha_bar = np.cos(angle) ** 2
    return schedule(np.minimum(1.0 - alpha_bar[1:] / alpha_bar[:-1], 0.999))


def at(table: Float64[np.ndarray, " n"], t: Steps) -> Coefficient:
    """Looks up one value per image, shaped to broadcast over height, width and channels."""
    return jnp.asarray(table)[t][:, None, None, None]


def is_whole(t: Times) -> bool:
    return jnp.issubdtype(t.dtype, jnp.integer)


def interpolate(table: Float64[np.ndarray, " n"], t: Times) -> Coefficient:
    """Looks up a table at whole times or between them, where it is linear."""
    below = jnp.clip(jnp.floor(t), 0, len(table) - 2).astype(jnp.int32)
    rest = (t - below)[:, None, None, None]
    return at(table[:-1], below) + rest * at(np.diff(table), below)


def log_alpha_bar(sched: Schedule, t: Times) -> Coefficient:
    """Returns log alpha_bar_t, linear between whole t: within a step beta is a constant rate."""
    return interpolate(np.cumsum(np.log1p(-sched.beta)), t)


def signal(sched: Schedule, t: Times) -> Coefficient:
    """sqrt(alpha_bar_t), the scale of x_0 in x_t. Eq. 4."""
    if is_whole(t):
        return at(np.sqrt(sched.alpha_bar), t)
    return jnp.exp(0.5 * log_alpha_bar(sched, t))


def sigma(sched: Schedule, t: Times) -> Coefficient:
    """sqrt(1 - alpha_bar_t), the standard deviation of the noise in x_t. Eq. 4."""
    if is_whole(t):
        return at(np.sqrt(1.0 - sched.alpha_bar), t)
    return jnp.sqrt(-jnp.expm1(log_alpha_bar(sched, t)))


def log_alpha(sched: Schedule, t: Steps, s: Steps) -> Coefficient:
    """log(alpha_bar_t / alpha_bar_s), the log of the product of the alphas after s, up to t."""
    log_alpha_bar = np.cumsum(np.log1p(-sched.beta))
    # A difference of close numbers: a second table holds the digits that float32 cuts off the first.
    high = log_alpha_bar.astype(np.float32).astype(np.float64)
    low = log_alpha_bar - high
    return (at(high, t) - at(high, s)) + (at(low, t) - at(low, s))


def transition_variance(sched: Schedule, t: Steps, s: Steps) -> Coefficient:
    """The variance of q(x_t | x_s), 1 - alpha_bar_t / alpha_bar_s; beta_t when s = t - 1. Eq. 2."""
    return -jnp.expm1(log_alpha(sched, t, s))


def posterior_variance(sched: Schedule, t: Steps, s: Steps) -> Coefficient:
    """The variance of q(x_s | x_t, x_0), beta-tilde_t when s = t - 1; zero at s = 0. Eq. 7."""
    ratio = sigma(sched, s) / sigma(sched, t)
    return ratio**2 * transition_variance(sched, t, s)


def posterior_coefficients(sched: Schedule, t: Steps, s: Steps) -> tuple[Coefficient, Coefficient]:
    """The factors of x_0 and x_t in the mean of q(x_s | x_t, x_0). Eq. 7."""
    variance_t = sigma(sched, t) ** 2
    x_0_factor = signal(sched, s) * transition_variance(sched, t, s) / variance_t
    x_t_factor = jnp.exp(0.5 * log_alpha(sched, t, s)) * sigma(sched, s) ** 2 / variance_t
    return x_0_factor, x_t_factor


def q_sample(sched: Schedule, x_0: Images, t: Times, eps: Images) -> Images:
    """Draws x_t ~ q(x_t | x_0) given its noise. Eq. 4."""
    return signal(sched, t) * x_0 + sigma(sched, t) * eps


def q_posterior_mean(sched: Schedule, x_0: Images, x_t: Images, t: Steps, s: Steps) -> Images:
    """The mean of q(x_s | x_t, x_0), mu-tilde when s = t - 1. Eq. 7."""
    x_0_factor, x_t_factor = posterior_coefficients(sched, t, s)
    return x_0_factor * x_0 + x_t_factor * x_t


def x_0_from_eps(sched: Schedule, x_t: Images, eps: Images, t: Times) -> Images:
    """Solves Eq. 4 for x_0. Eq. 15."""
    if not is_whole(t):
        return (x_t - sigma(sched, t) * eps) / signal(sched, t)
    return x_t / signal(sched, t) - at(np.sqrt(1.0 / sched.alpha_bar - 1.0), t) * eps


def eps_from_x_0(sched: Schedule, x_t: Images, x_0: Images, t: Times) -> Images:
    """Solves Eq. 4 for the noise; t > 0."""
    return (x_t - signal(sched, t) * x_0) / sigma(sched, t)


def normal_kl(mean_1: Numbers, log_var_1: Numbers, mean_2: Numbers, log_var_2: Numbers) -> Array:
    """KL(N(mean_1, exp(log_var_1)) || N(mean_2, exp(log_var_2))), element by element, in nats."""
    d = log_var_1 - log_var_2
    return 0.5 * (jnp.expm1(d) - d + (mean_1 - mean_2) ** 2 * jnp.exp(-log_var_2))


def prior_kl(sched: Schedule, x_0: Images) -> Images:
    """L_T, KL(q(x_T | x_0) || N(0, 1)), element by element, in nats. Eq. 5."""
    T = jnp.full(x_0.shape[:1], sched.T)
    return normal_kl(signal(sched, T) * x_0, 2.0 * jnp.log(sigma(sched, T)), 0.0, 0.0)


def log_cdf_normal(z: Array) -> Array:
    """The log of the standard normal distribution function, precise far into the left tail."""
    return log_ndtr(z)


def log_cdf_tanh(z: Array) -> Array:
    """The release's approximation of it, by 0.5 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))."""
    return jax.nn.log_sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3))


def discretized_log_likelihood(
    x_0: Images,
    mean: Array,
    log_variance: Array,
    levels: int,
    log_cdf: Callable[[Array], Array] = log_cdf_normal,
) -> Images:
    """log p(x_0) in nats, for 'levels' evenly spaced grey levels on [-1, 1]. Eq. 13.

    The two end bins extend to infinity, so the probabilities of a pixel's levels sum to one.
    """
    half_bin = 1.0 / (levels - 1)
    inverse_std = jnp.exp(-0.5 * log_variance)
    # By symmetry a bin right of the mean has the probability of its mirror image on the left, where
    # the log of the distribution function keeps its digits.
    distance = -jnp.abs(x_0 - mean)
    upper = (distance + half_bin) * inverse_std
    lower = (distance - half_bin) * inverse_std
    mirrored = x_0 > mean
    at_bottom, at_top = x_0 < -1.0 + half_bin, x_0 > 1.0 - half_bin
    open_below = jnp.where(mirrored, at_top, at_bottom)
    open_above = jnp.where(mirrored, at_bottom, at_top)
    log_upper, log_lower = log_cdf(upper), log_cdf(lower)
    # The open bins do not use the difference, but its gradient must be finite there too.
    gap = jnp.where(open_below, -1.0, jnp.minimum(log_lower - log_upper, -1e-12))
    inside = log_upper + jnp.log(-jnp.expm1(gap))
    return jnp.where(open_above, log_cdf(-lower), jnp.where(open_below, log_upper, inside))


def released_log_likelihood(x_0: Images, mean: Array, log_variance: Array, levels: int) -> Images:
    """The release's version of it: the tanh approximation, with probabilities floored at 1e-12.

    Below the floor there is no gradient.
    """
    log_p = discretized_log_likelihood(x_0, mean, log_variance, levels, log_cdf_tanh)
    return jnp.maximum(log_p, math.log(1e-12))
