"""The fields of a config that choose a sampler: 'solver', 'steps', 'eta'."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ddpm_jax import parameterization, sampling, settings, solvers
from ddpm_jax.diffusion import Schedule
from ddpm_jax.parameterization import Parameterization, Variance
from ddpm_jax.settings import Chain

Times = Int[np.ndarray, " n"]


class Solver(NamedTuple):
    """A value of 'solver': its sampler, of the run's variance and eta, and the times it visits."""

    sampler: Callable[[Variance, float], sampling.Sampler]
    times: Callable[[Schedule, int], Times]
    uses_variance: bool = False
    uses_eta: bool = False


def evenly(sched: Schedule, steps: int) -> Times:
    return sampling.path(sched.T, steps)


SOLVERS = {
    "ancestral": Solver(
        lambda variance, eta: sampling.lift(sampling.ancestral(variance)),
        evenly,
        uses_variance=True,
    ),
    "ddim": Solver(lambda variance, eta: sampling.lift(sampling.ddim(eta)), evenly, uses_eta=True),
    "dpm_solver": Solver(lambda variance, eta: solvers.dpm_solver(), evenly),
    "heun": Solver(lambda variance, eta: solvers.heun(), solvers.karras),
}


def chain(
    sched: Schedule,
    parameterization_: Parameterization,
    variance: Variance,
    section: str,
    solver: str,
    steps: int,
    eta: float,
) -> Chain:
    """Raises ValueError for steps on which the network's own mean or variance is not defined, and for an
    eta where there is none.
    """
    chosen = settings.choice(f"{section}.solver", solver, SOLVERS)
    sampler = chosen.sampler(variance, eta)
    if not 1 <= steps <= sched.T:
        raise ValueError(f"{section}.steps is {steps}; it must lie between 1 and T = {sched.T}")
    if eta and not chosen.uses_eta:
        raise ValueError(
            f"{section}.eta is {eta}, but {solver} has none; {section}.solver ddim has"
        )
    own_mean = parameterization_ is parameterization.x_prev
    own_variance = variance is parameterization.learned
    if steps != sched.T and own_mean:
        raise ValueError(
            f"{section}.steps is {steps}, but this network's own mean is for single steps;"
            f" take all {sched.T}"
        )
    if steps != sched.T and own_variance and chosen.uses_variance:
        raise ValueError(
            f"{section}.steps is {steps}, but this network's own variance is for single steps;"
            f" take all {sched.T}, or another {section}.solver, which does not use it"
        )
    name = f"{solver}-{steps}" + (f"-eta{eta:g}" if chosen.uses_eta else "")
    return Chain(sampler, chosen.times(sched, steps), name)
