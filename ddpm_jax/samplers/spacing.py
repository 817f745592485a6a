"""Timestep spacings: the times that a sampler visits, from T down to 0."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int

from ddpm_jax.diffusion import Schedule

Path = Int[np.ndarray, " n"]  # the times, in the order of the sampler's visits
Spacing = Callable[[int, int], np.ndarray]  # (T, steps) -> the times


def linear(T: int, steps: int) -> np.ndarray:
    """Returns 'steps' + 1 whole times from T down to 0, as evenly spaced as rounding allows.

    Raises ValueError unless 1 <= steps <= T.
    """
    check_steps(T, steps)
    return np.round(np.linspace(T, 0, steps + 1)).astype(np.int32)


def quadratic(T: int, steps: int) -> np.ndarray:
    """Returns times whose square roots are evenly spaced, so that steps are shorter near data.

    Song et al. 2021 (arXiv:2010.02502), App. D.2; their code starts at 0.8 T, this at T. Raises
    ValueError unless 1 <= steps <= T.
    """
    check_steps(T, steps)
    times = T * np.linspace(1.0, 0.0, steps + 1) ** 2
    return strictly_decreasing(np.round(times).astype(np.int32), last=0)


def check_steps(T: int, steps: int) -> None:
    if not 1 <= steps <= T:
        raise ValueError(f"sample.steps is {steps}; it must lie between 1 and T = {T}")


def strictly_decreasing(times: Int[np.ndarray, " n"], last: int) -> Int[np.ndarray, " n"]:
    """Returns the decreasing times made strictly decreasing, none of them below 'last'.

    Repeated times move down to free ones; where there is no room above 'last', times move up.
    """
    index = np.arange(len(times))
    decreasing = np.minimum.accumulate(times + index) - index
    return np.maximum(decreasing, last + len(times) - 1 - index).astype(np.int32)


LINEAR = "linear"
SPACINGS = {LINEAR: linear, "quadratic": quadratic}

RHO = 7.0  # Karras et al. 2022, Sec. 3.1; larger values put more of the steps at low noise


def noise_level(sched: Schedule) -> Float64[np.ndarray, " n"]:
    """Returns sigma~_t = sqrt(1 / alpha_bar_t - 1) for t = 0..T; it is 0 at t = 0."""
    return np.sqrt(1.0 / sched.alpha_bar - 1.0)


def karras(sched: Schedule, steps: int) -> Int[np.ndarray, " n"]:
    """Returns 'steps' + 1 whole times from T down to 0 that are nearest to Karras et al. 2022, Eq. 5.

    There sigma~^(1/rho) is evenly spaced.
    """
    level = noise_level(sched)
    ends = level[-1] ** (1 / RHO), level[1] ** (1 / RHO)
    return np.append(nearest(sched, np.linspace(*ends, steps) ** RHO), 0).astype(np.int32)


def nearest(sched: Schedule, levels: Float64[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Returns the times t >= 1, each used once, whose log sigma~ are nearest to decreasing 'levels'."""
    table = np.log(noise_level(sched)[1:])
    midpoints = (table[1:] + table[:-1]) / 2.0
    times = np.searchsorted(midpoints, np.log(levels)) + 1
    return strictly_decreasing(times, last=1)
