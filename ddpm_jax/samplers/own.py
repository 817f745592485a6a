"""A sampler of the user's own as a Solver: made from a Step, a Sampler, a plan function or a Solver."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

from ddpm_jax.diffusion import Schedule
from ddpm_jax.samplers import steps as steps_
from ddpm_jax.samplers.spacing import Spacing
from ddpm_jax.samplers.steps import Plan, Sampler, Solver

KINDS = (
    "a sampler must be a Step, a function of (sched, x_t, denoised, t, s, noise); a plan, a function of"
    " (sched, steps) that returns a Plan; a Sampler; or a Solver"
)


def as_solver(value: Any, name: str) -> Solver:
    """Returns the solver of a Step, a Sampler, a plan function or a Solver.

    'name', without characters that file names lack, begins the name of its plans. Raises ValueError for
    anything else.
    """
    stem = file_name(name)
    if isinstance(value, Solver):
        return value._replace(plan=name_plans(value.plan, stem))
    if isinstance(value, Sampler):
        return Solver(plan_sampler(value, stem))
    arguments = count_arguments(value)
    if arguments == 6:
        return Solver(plan_sampler(steps_.lift(value), stem))
    if arguments == 2:
        return Solver(name_plans(value, stem))
    found = f"a function of {arguments} arguments" if callable(value) else f"{value!r:.80}"
    raise ValueError(f"{KINDS}; this is {found}")


def count_arguments(value: Any) -> int | None:
    """Returns the number of positional arguments that a function needs; None for anything else."""
    if not callable(value):
        return None
    parameters = inspect.signature(value).parameters.values()
    positional = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return sum(each.kind in positional and each.default is each.empty for each in parameters)


def plan_sampler(sampler: Sampler, stem: str) -> Callable[..., Plan]:
    """Returns the plan function of a sampler that can visit any times."""

    def plan(sched: Schedule, steps: int, *, spacing: Spacing) -> Plan:
        return Plan(sampler=sampler, times=spacing(sched.T, steps), name=f"{stem}-{steps}")

    return plan


def name_plans(plan: Callable[..., Plan], stem: str) -> Callable[..., Plan]:
    """Returns a plan function with the same options, whose plans have names that begin with 'stem'."""

    @functools.wraps(plan)
    def named(sched: Schedule, steps: int, **options: Any) -> Plan:
        made: Any = plan(sched, steps, **options)
        if not isinstance(made, Plan):
            raise ValueError(f"{stem} returned {made!r:.80}; it must be a Plan")
        return made._replace(name=f"{stem}-{file_name(made.name) or steps}")

    return named


def file_name(name: str) -> str:
    """Returns a name with a dot for any other characters than letters, digits, ".", "_" and "-"."""
    return re.sub(r"[^A-Za-z0-9._-]+", ".", name).strip(".-")
