"""Timestep spacings: the times that a sampler visits, from T down to 0."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float64, Int

from ddpm_jax.diffusion import Schedule

Path = Int[Array | np.ndarray, " n"]
Spacing = Callable[[int, int], np.ndarray]  # T and a number of steps to the times


def path(T: int, steps: int) -> np.ndarray:
    """'steps' + 1 whole times from T down to 0, as evenly spaced as they can be.

    Raises ValueError unless 1 <= steps <= T.
    """
    check_steps(T, steps)
    return np.round(np.linspace(T, 0, steps + 1)).astype(np.int32)


def quadratic_path(T: int, steps: int) -> np.ndarray:
    """The same with evenly spaced square roots, so closer together near data: Song et al. 2021
    (arXiv:2010.02502), App. D.2. Their release begins at 0.8 T.
    """
    check_steps(T, steps)
    times = T * np.linspace(1.0, 0.0, steps + 1) ** 2
    return strictly_falling(np.round(times).astype(np.int32), last=0)


def check_steps(T: int, steps: int) -> None:
    if not 1 <= steps <= T:
        raise ValueError(f"sample.steps is {steps}; it must lie between 1 and T = {T}")


def strictly_falling(times: Int[np.ndarray, " n"], last: int) -> Int[np.ndarray, " n"]:
    """Falling times, with the one below in place of a time that would come again; none below 'last'."""
    place = np.arange(len(times))
    falling = np.minimum.accumulate(times + place) - place
    return np.maximum(falling, last + len(times) - 1 - place).astype(np.int32)


LINEAR = "linear"
SPACINGS = {LINEAR: path, "quadratic": quadratic_path}

RHO = 7.0  # Karras et al. 2022, Sec. 3.1: how much closer the steps are at low noise


def noise_level(sched: Schedule) -> np.ndarray:
    """sigma~ of every t, from 0 at t = 0."""
    return np.sqrt(1.0 / sched.alpha_bar - 1.0)


def karras(sched: Schedule, steps: int) -> Int[np.ndarray, " n"]:
    """'steps' + 1 whole times from T down to 0: those nearest to Eq. 5 of Karras et al. 2022.

    sigma~^(1/rho) falls in equal steps.
    """
    level = noise_level(sched)
    ends = level[-1] ** (1 / RHO), level[1] ** (1 / RHO)
    return np.append(nearest(sched, np.linspace(*ends, steps) ** RHO), 0).astype(np.int32)


def nearest(sched: Schedule, wanted: Float64[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The times nearest to falling sigma~; where one is asked for twice the one before it is taken."""
    level = noise_level(sched)
    found = np.abs(np.log(level[1:, None]) - np.log(wanted)).argmin(axis=0) + 1
    return strictly_falling(found, last=1)
