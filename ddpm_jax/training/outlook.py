"""How long the rest of training takes: said once, after its first steps, with advice where that is weeks."""

import shlex
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from ddpm_jax.datasets.source import Folder
from ddpm_jax.distributed import mesh
from ddpm_jax.run.run import Run
from ddpm_jax.run.state import TrainState
from ddpm_jax.runtime import console

STEPS, SECONDS = 10, 60.0  # of the timing; the one that comes first ends it
LONG = 7 * 24 * 3600.0  # seconds, from which on there is advice
LAPTOP, GPU = "image_folder:laptop", "image_folder:gpu"  # configs for less than weeks


def announcer(run: Run) -> Callable[[int, TrainState], None]:
    """Returns a function, to be called after each step, that says once how long the rest takes.

    Until then it waits for each step, since a step returns before the device has computed it.
    """
    ends: list[float] = []  # of steps, from the first on, which compiles
    said: list[str] = []

    def announce(step: int, state: TrainState) -> None:
        if said:
            return
        jax.block_until_ready(state.step)
        ends.append(time.monotonic())
        timed = len(ends) - 1
        if timed < 1 or (timed < STEPS and ends[-1] - ends[0] < SECONDS):
            return
        # The median, as a grid or a save may lie between two steps.
        said.extend(describe(run, step, statistics.median(np.diff(ends))))
        for line in said:
            console.say(line)

    return announce


def describe(run: Run, step: int, seconds: float) -> list[str]:
    """Returns lines about the steps after 'step', each of which takes so many seconds."""
    steps = run.train.steps - step
    left = steps * seconds
    lines = [f"about {console.describe_duration(left)} left: {steps:,} steps of {seconds:.2g} s"]
    return [*lines, advice(run)] if left >= LONG else lines


def advice(run: Run) -> str:
    """Returns what to do about a training that takes weeks."""
    on_cpu = mesh.is_on_cpu(run.mesh)
    recipe = LAPTOP if on_cpu else GPU
    has_it = run.name in (name.replace(":", "-") for name in (LAPTOP, recipe))
    if isinstance(run.data, Folder) and not has_it:
        path = shlex.quote(run.data.path)
        return f"this is what {recipe} is for: ddpm train {recipe} --config.data.path={path}"
    devices = "a GPU or TPU" if on_cpu else "more devices"
    return (
        "to be done sooner: fewer steps (--config.train.steps), a smaller network"
        f" (--config.model.channels), or {devices}"
    )
