"""The SDEs dx = f x dt + g dw of Song et al. 2021 (arXiv:2011.13456), Sec. 3 and App. B: VP, sub-VP, VE.

Divided by its root mean square on data of unit variance, sqrt(signal^2 + sigma^2), each of them is a
variance-preserving process with alpha_bar = signal^2 / (signal^2 + sigma^2). So each is a Schedule, which every
sampler, the bound and the figures accept; the network sees the divided x_t, and 'Schedule.scale' is that
root mean square. The unit of time is a step: t is T times the paper's time. At whole t the kernels are the
paper's; between them the rates, f and g^2 / scale^2, are constant.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from ddpm_jax import diffusion
from ddpm_jax.diffusion import Coefficient, Schedule, Steps, Times

T_MIN = 0.01  # steps; the score-SDE paper's 1e-5 of unit time at T = 1000 (App. C)

Table = Float64[np.ndarray, " n"]


def from_marginals(log_alpha_bar: Table, log_scale: Table) -> Schedule:
    """Returns the schedule with these log(alpha_bar) and log(scale) at t = 0..T; both are 0 at t = 0."""
    sched = diffusion.schedule(-np.expm1(np.diff(log_alpha_bar)))
    return sched._replace(scale=np.exp(log_scale))


def beta_integral(T: int, beta_1: float, beta_T: float) -> Table:
    """Integrates beta(t), linear from T beta_1 to T beta_T over unit time (0.1 to 20 for DDPM), up to each t. Eq. 32.

    Raises ValueError unless T >= 2 and 0 < beta_1 <= beta_T.
    """
    check_T(T)
    if not 0.0 < beta_1 <= beta_T < np.inf:
        raise ValueError(
            f"diffusion.schedule.beta_1 is {beta_1} and beta_T {beta_T}; 0 < beta_1 <= beta_T is needed"
        )
    unit = np.arange(T + 1) / T
    return T * (beta_1 * unit + 0.5 * (beta_T - beta_1) * unit**2)


def check_T(T: int) -> None:
    if T < 2:
        raise ValueError(f"diffusion.schedule.T is {T}; a chain needs at least 2 steps")


def vp(T: int, beta_1: float, beta_T: float) -> Schedule:
    """The variance-preserving SDE, DDPM's limit: f = -beta / 2, g^2 = beta. Eq. 11."""
    integral = beta_integral(T, beta_1, beta_T)
    return from_marginals(-integral, np.zeros_like(integral))


def sub_vp(T: int, beta_1: float, beta_T: float) -> Schedule:
    """The sub-VP SDE, less noise at every t: signal^2 = a, sigma = 1 - a, where a is VP's alpha_bar. Eqs. 12 and 29."""
    integral = beta_integral(T, beta_1, beta_T)
    log_mean_square = np.log(np.exp(-integral) + np.expm1(-integral) ** 2)
    return from_marginals(-integral - log_mean_square, 0.5 * log_mean_square)


def ve(T: int, sigma_min: float, sigma_max: float) -> Schedule:
    """The variance-exploding SDE: signal = 1, and sigma geometric from sigma_min at t = 1 to sigma_max at T. Eq. 9.

    With T = 10 these are NCSN's noise levels (Song & Ermon 2019, Sec. 4.2). Raises ValueError unless
    T >= 2 and 0 < sigma_min < sigma_max.
    """
    check_T(T)
    if not 0.0 < sigma_min < sigma_max < np.inf:
        raise ValueError(
            f"diffusion.schedule.sigma_min is {sigma_min} and sigma_max {sigma_max};"
            " 0 < sigma_min < sigma_max is needed"
        )
    variance = np.append(0.0, np.geomspace(sigma_min, sigma_max, T)) ** 2
    return from_marginals(-np.log1p(variance), 0.5 * np.log1p(variance))


def log_scale(sched: Schedule) -> Table:
    return np.zeros(sched.T + 1) if sched.scale is None else np.log(sched.scale)


def scale(sched: Schedule, t: Times) -> Coefficient:
    """The factor that takes x_t to the process's own coordinates; 1 for every chain of 'diffusion'."""
    return jnp.exp(diffusion.interpolate(log_scale(sched), t))


def slope(table: Table, t: Times) -> Coefficient:
    """The derivative of a table that is linear between whole t; at whole t, that of the step that ends there."""
    below = jnp.clip(jnp.ceil(t) - 1, 0, len(table) - 2).astype(jnp.int32)
    return diffusion.at(np.diff(table), below)


def rate(sched: Schedule, t: Times) -> Coefficient:
    """beta(t) of the variance-preserving process, per step: -d log(alpha_bar) / dt."""
    return slope(-np.cumsum(np.log1p(-sched.beta)), t)


def drift(sched: Schedule, t: Times) -> Coefficient:
    """f of dx = f x dt + g dw, in the process's own coordinates. Eq. 5."""
    return slope(log_scale(sched), t) - 0.5 * rate(sched, t)


def diffusion_coefficient(sched: Schedule, t: Times) -> Coefficient:
    """g of dx = f x dt + g dw, in the process's own coordinates. Eq. 5."""
    return scale(sched, t) * jnp.sqrt(rate(sched, t))


def transition(sched: Schedule, t: Steps, s: Steps) -> tuple[Coefficient, Coefficient]:
    """Returns m and v of x_t = m x_s + sqrt(v) z, t > s, in the process's own coordinates."""
    log_ratio = diffusion.interpolate(log_scale(sched), t) - diffusion.interpolate(
        log_scale(sched), s
    )
    factor = jnp.exp(log_ratio + 0.5 * diffusion.log_alpha(sched, t, s))
    return factor, scale(sched, t) ** 2 * diffusion.transition_variance(sched, t, s)
