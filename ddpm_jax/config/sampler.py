"""The fields of a config that choose a sampler: 'solver', 'steps', 'eta', 'spacing', and 'langevin' of those that use it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ddpm_jax import parameterization
from ddpm_jax.config import validate
from ddpm_jax.diffusion import Schedule
from ddpm_jax.parameterization import Parameterization, Variance
from ddpm_jax.run.run import Chain
from ddpm_jax.samplers import guidance, ode_solvers, sde_solvers, spacing, steps
from ddpm_jax.samplers.sde_solvers import Langevin

Times = Int[np.ndarray, " n"]


class Solver(NamedTuple):
    """A value of 'solver': its sampler, the times it visits, and what of the section they are made from."""

    sampler: Callable[[Variance, float, Langevin], steps.Sampler]
    times: Callable[[Schedule, int, Langevin], Times] | None  # None: those of 'spacing'
    uses_variance: bool = False
    uses_eta: bool = False
    toward: guidance.Towards = guidance.by_score
    uses_score: bool = False  # where a network's own mean, of s = t - 1, is of no use
    name: Callable[[str, int, float, Langevin], str] = lambda solver, steps, eta, _: (
        f"{solver}-{steps}"
    )


def langevin(*, corrections: int, snr: float, updates: int, step_size: float) -> Langevin:
    validate.at_least(0, "sample.langevin", corrections=corrections)
    validate.at_least(1, "sample.langevin", updates=updates)
    for name, value in {"snr": snr, "step_size": step_size}.items():
        if not 0.0 < value < 1.0:
            raise ValueError(f"sample.langevin.{name} is {value}; it must lie between 0 and 1")
    return Langevin(corrections, snr, updates, step_size)


LINEAR = "linear"
SPACINGS = {LINEAR: spacing.path, "quadratic": spacing.quadratic_path}
SOLVERS = {
    "ancestral": Solver(
        lambda variance, eta, _: steps.lift(steps.ancestral(variance)),
        None,
        uses_variance=True,
        toward=guidance.by_mean,
    ),
    "ddim": Solver(
        lambda variance, eta, _: steps.lift(steps.ddim(eta)),
        None,
        uses_eta=True,
        name=lambda solver, steps, eta, _: f"{solver}-{steps}-eta{eta:g}",
    ),
    "dpm_solver": Solver(lambda *_: ode_solvers.dpm_solver(), None),
    "heun": Solver(lambda *_: ode_solvers.heun(), lambda sched, n, _: spacing.karras(sched, n)),
    "euler_maruyama": Solver(
        lambda *_: steps.lift(sde_solvers.euler_maruyama()), None, uses_score=True
    ),
    "predictor_corrector": Solver(
        lambda variance, eta, how: steps.lift(sde_solvers.predictor_corrector(how.snr)),
        lambda sched, n, how: sde_solvers.predictor_corrector_path(sched, n, how.corrections),
        uses_score=True,
        name=lambda solver, n, _, how: f"{solver}-{n}-{how.corrections}x{how.snr:g}",
    ),
    "annealed_langevin": Solver(
        lambda variance, eta, how: steps.lift(sde_solvers.annealed_langevin(how.step_size)),
        lambda sched, n, how: sde_solvers.annealed_langevin_path(sched, n, how.updates),
        uses_score=True,
        name=lambda solver, n, _, how: f"{solver}-{n}-{how.updates}x{how.step_size:g}",
    ),
    "ode": Solver(  # adaptive: 'steps' has no part in it
        lambda *_: sde_solvers.ode(),
        lambda sched, *_: spacing.path(sched.T, 1),
        uses_score=True,
        name=lambda solver, *_: solver,
    ),
}


def chain(
    sched: Schedule,
    parameterization_: Parameterization,
    variance: Variance,
    section: str,
    solver: str,
    steps: int,
    eta: float,
    spacing: str = LINEAR,
    how: Langevin = sde_solvers.SONG,
) -> Chain:
    """Raises ValueError for steps on which the network's own mean or variance is not defined, and for an
    eta or a spacing where there is none.
    """
    chosen = validate.choice(f"{section}.solver", solver, SOLVERS)
    path = validate.choice(f"{section}.spacing", spacing, SPACINGS)
    sampler = chosen.sampler(variance, eta, how)
    if eta and not chosen.uses_eta:
        raise ValueError(
            f"{section}.eta is {eta}, but {solver} has none; {section}.solver ddim has"
        )
    if spacing != LINEAR and chosen.times:
        raise ValueError(f"{section}.spacing is {spacing}, but {solver} has a spacing of its own")
    check_steps(sched, parameterization_, variance, section, solver, steps)
    name = chosen.name(solver, steps, eta, how) + (f"-{spacing}" if spacing != LINEAR else "")
    times = chosen.times(sched, steps, how) if chosen.times else path(sched.T, steps)
    return Chain(sampler, times, name, chosen.toward)


def check_steps(
    sched: Schedule,
    parameterization_: Parameterization,
    variance: Variance,
    section: str,
    solver: str,
    steps: int,
) -> None:
    chosen = SOLVERS[solver]
    if not 1 <= steps <= sched.T:
        raise ValueError(f"{section}.steps is {steps}; it must lie between 1 and T = {sched.T}")
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
    if own_mean and chosen.uses_score:
        raise ValueError(
            f"{section}.solver {solver} goes by the score, and this network gives its own mean of"
            f" single steps; {section}.solver ancestral goes by that"
        )
