"""The fields of a config that define a sampler: 'solver', 'steps' and the options of solvers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ddpm_jax import parameterization
from ddpm_jax.config import validate
from ddpm_jax.diffusion import Schedule
from ddpm_jax.parameterization import Parameterization, Variance
from ddpm_jax.run.run import Chain
from ddpm_jax.runtime import user_code
from ddpm_jax.samplers import ode_solvers, own, sde_solvers, steps
from ddpm_jax.samplers.spacing import LINEAR, SPACINGS
from ddpm_jax.samplers.steps import Solver

SOLVERS = steps.SOLVERS | ode_solvers.SOLVERS | sde_solvers.SOLVERS
NO_OPTIONS = MappingProxyType({})


def langevin(*, corrections: int, snr: float, updates: int, step_size: float) -> dict[str, Any]:
    """Returns the options for solvers with Langevin dynamics. Raises ValueError if one is out of range."""
    validate.at_least(0, "sample.langevin", corrections=corrections)
    validate.at_least(1, "sample.langevin", updates=updates)
    sizes = {"snr": snr, "step_size": step_size}
    for name, value in sizes.items():
        if not 0.0 < value < 1.0:
            raise ValueError(f"sample.langevin.{name} is {value}; it must lie between 0 and 1")
    return {"corrections": corrections, "updates": updates, **sizes}


def find_solver(section: str, name: str) -> Solver:
    """Returns the solver of a section's name, which may be user code.

    Its samples' files have a checksum of the code in their names, as nothing else tells its versions.
    """
    if ":" not in name:
        return validate.choice(f"{section}.solver", name, SOLVERS)
    value = user_code.load(f"{section}.solver", name)
    try:
        return own.as_solver(value, f"{name}-{user_code.checksum(name)[:8]}")
    except ValueError as error:
        raise ValueError(f"{section}.solver is {name}: {error}") from error


def chain(
    sched: Schedule,
    parameterization_: Parameterization,
    variance: Variance,
    section: str,
    solver: str,
    steps: int,
    eta: float,
    spacing: str = LINEAR,
    langevin: Mapping[str, Any] = NO_OPTIONS,
) -> Chain:
    """Returns the chain of a config section.

    Raises ValueError for steps at which the network's own mean or variance is undefined, and for an
    eta or a spacing that the solver does not take.
    """
    chosen = find_solver(section, solver)
    path = validate.choice(f"{section}.spacing", spacing, SPACINGS)
    available = {"variance": variance, "eta": eta, "spacing": path, **langevin}
    options = validate.options(chosen.plan, available)
    if eta and "eta" not in options:
        raise ValueError(
            f"{section}.eta is {eta}, but {solver} has none; use {section}.solver ddim"
        )
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"{section}.eta is {eta}; it must lie between 0 and 1")
    if spacing != LINEAR and "spacing" not in options:
        raise ValueError(f"{section}.spacing is {spacing}, but {solver} has its own spacing")
    check_steps(sched, parameterization_, variance, section, solver, chosen, steps)
    plan = validate.call(f"{section}.solver {solver}", chosen.plan, available, sched, steps)
    return Chain(
        sampler=plan.sampler,
        times=plan.times,
        name=plan.name if spacing == LINEAR else f"{plan.name}-{spacing}",
        classifier_guidance=chosen.classifier_guidance,
        takes_labels=chosen.takes_labels,
    )


def check_steps(
    sched: Schedule,
    parameterization_: Parameterization,
    variance: Variance,
    section: str,
    solver: str,
    chosen: Solver,
    steps: int,
) -> None:
    """Raises ValueError for steps or a solver that the network's output does not allow."""
    if not 1 <= steps <= sched.T:
        raise ValueError(f"{section}.steps is {steps}; it must lie between 1 and T = {sched.T}")
    predicts_mean = parameterization_ is parameterization.x_prev
    uses_variance = validate.options(chosen.plan, {"variance": variance})
    if steps != sched.T and predicts_mean:
        raise ValueError(
            f"{section}.steps is {steps}, but this network's own mean is for single steps;"
            f" use all {sched.T}"
        )
    if steps != sched.T and uses_variance and variance is parameterization.learned:
        raise ValueError(
            f"{section}.steps is {steps}, but this network's own variance is for single steps;"
            f" use all {sched.T}, or a {section}.solver that ignores it, such as ddim"
        )
    if predicts_mean and chosen.needs_score:
        raise ValueError(
            f"{section}.solver {solver} needs the score, but this network predicts the mean of"
            f" single steps; use {section}.solver ancestral"
        )
