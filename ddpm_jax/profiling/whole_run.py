"""The hours of a whole run, from the time of a step; on a Cloud TPU its chip-hours, which are what is paid for."""

from typing import Any

from ddpm_jax.profiling import hardware
from ddpm_jax.run.run import Run

Json = dict[str, Any]
WORTH_MENTION = 0.05  # the share of the hours from which on the sample grids are mentioned
METHODS = {"estimated_seconds": "by cycles", "optimal_seconds": "by XLA's cost model"}


def facts(run: Run, seconds: float, sampling_seconds: float | None = None) -> Json:
    """Returns the hours of train.steps steps of training and of their sample grids, and the chip-hours.

    'sampling_seconds' is the time of a sampling step of sample.batch_size images; without it the grids are left out.
    """
    grids = grid_steps(run) * sampling_seconds if sampling_seconds else None
    hours = (run.train.steps * seconds + (grids or 0.0)) / 3600.0
    chips = hardware.chips(run.mesh.devices.flat[0].device_kind, run.mesh.size)
    return {
        "steps": run.train.steps,
        "seconds_per_step": seconds,
        "hours": hours,
        "grid_hours": None if grids is None else grids / 3600.0,
        "chips": chips,
        "chip_hours": None if chips is None else chips * hours,
    }


def grid_steps(run: Run) -> float:
    """Returns the sampling steps of all grids, each for as many images as sample.batch_size."""
    steps, every, grid = run.train.steps, run.train.sample_every, run.train.grid
    count = -(-steps // every) if every else 0  # the last step draws one too
    return count * (len(grid.chain.times) - 1) * grid.count / run.sample.batch_size


def estimates(run: Run, report: Json) -> Json:
    """Returns the facts by each of the compiler's estimates that preflight's report has, by its name.

    If training does not fit, they are those with the overrides that make it fit.
    """
    program = report if report["fits"] else report.get("then", report)
    return {
        method: facts(run, program[name], report["sampling"][name])
        for name, method in METHODS.items()
        if program[name]
    }


def describe(facts: Json, method: str = "") -> str:
    """Returns a line with the hours."""
    line = f"whole run{f' {method}' if method else ''}: {facts['steps']:,} steps in "
    line += describe_hours(facts["hours"])
    if facts["chips"] is not None:
        line += f", {number(facts['chip_hours'])} chip-hours on {facts['chips']} chips"
    grids = facts["grid_hours"] or 0.0
    if grids >= WORTH_MENTION * facts["hours"]:
        line += f"; {grids / facts['hours']:.0%} of it for the sample grids"
    return line


def describe_hours(hours: float) -> str:
    days = f" ({number(hours / 24.0)} days)" if hours >= 48.0 else ""
    return f"{number(hours)} hours{days}"


def number(value: float) -> str:
    """Formats a number with three digits, or as many as it has before the point."""
    return f"{value:.3g}" if value < 1000.0 else f"{value:,.0f}"
