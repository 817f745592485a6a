"""--mode=calibrate: what the codec must know of a run beside its weights, measured and written once."""

import time
from collections.abc import Sequence

import numpy as np
from etils import epath

from ddpm_jax.codec import calibration, measure, model
from ddpm_jax.run import state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint, console


def check(run: Run) -> None:
    """Raises ValueError for a model it cannot be of, and where one is: files need the one they have."""
    model.check(run.model)
    path = calibration.file_path(run.directory, newest_step(run))
    refuse_existing(path)
    run.data.open(run.data.split)


def refuse_existing(path: epath.Path) -> None:
    if path.exists():
        raise ValueError(
            f"{path} is there already, and files that were compressed with it need it;"
            " move it away to make another"
        )


def calibrate(run: Run) -> None:
    """Writes codec/<step>-codec.json, beside the checkpoint whose error it is."""
    step, params = state.averaged(run)
    path = calibration.file_path(run.directory, step)
    refuse_existing(path)  # an older step's, where the newest is damaged
    source = run.data.open(run.data.split)
    count = min(measure.IMAGES, source.count)
    images = source.read(np.arange(count) * (source.count // count))
    times = calibration.time_grid(run.model.sched)
    started = time.monotonic()
    with console.progress("calibrating", len(times), unit="time") as bar:
        errors = measure.errors(run.model, params, images, times, bar.update)
    curve = calibration.error_curve(run.model.sched, times, errors)
    found = calibration.plan_steps(run.model.sched, curve, int(np.prod(run.model.shape)))
    facts = {
        "split": run.data.split,
        "images": count,
        "seed": measure.SEED,
        "times": times.tolist(),
        "errors": errors.tolist(),
        "seconds": round(time.monotonic() - started, 1),
    }
    calibration.write(path, found, facts)
    bits = int(found.budget.sum()) / int(np.prod(run.model.shape))
    console.say(f"{len(found.times) - 1} steps of {run.model.sched.T}: {listed(found.times)}")
    console.say(f"paths of {bits:.3f} bits/dim in the mean, then the last layer")
    console.say(f"calibration {path}; files that were written with another are not read with it")


def listed(times: Sequence[int]) -> str:
    return " ".join(map(str, times))


def newest_step(run: Run) -> int:
    return checkpoint.steps_in(run.checkpoints)[-1]
