"""--mode=calibrate: measures what the codec needs besides the weights, once per checkpoint."""

import time

import numpy as np
from etils import epath

from ddpm_jax.codec import calibration, measure, model
from ddpm_jax.run import state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console


def check(run: Run) -> None:
    """Raises ValueError if the codec does not support the model, or the checkpoint is already calibrated."""
    model.check(run.model)
    refuse_existing(calibration_path(run))
    run.data.open(run.data.split)


def refuse_existing(path: epath.Path) -> None:
    """Raises ValueError if a calibration exists: files compressed with it could not be decoded with another."""
    if path.exists():
        raise ValueError(
            f"{path} already exists, and files compressed with it need it;"
            " move it away to calibrate again"
        )


def calibrate(run: Run) -> None:
    """Writes codec/<step>-codec.json for the checkpoint to read."""
    step, params = state.read_weights(run)
    path = calibration.file_path(run.directory, step, run.prefix)
    refuse_existing(path)  # again, as this may be an older step if the newest checkpoint is damaged
    source = run.data.open(run.data.split)
    count = min(measure.IMAGES, source.count)
    images = source.read(np.arange(count) * (source.count // count))
    sched, dims = run.model.sched, int(np.prod(run.model.shape))
    times = calibration.time_grid(sched)
    started = time.monotonic()
    with console.progress("calibrating", len(times), unit="time") as bar:
        errors = measure.errors(run.model, params, images, times, bar.update)
    curve = calibration.error_curve(sched, times, errors)
    plan = calibration.plan_steps(sched, curve, dims)
    facts = {
        "weights": run.weights,
        "split": run.data.split,
        "images": count,
        "seed": measure.SEED,
        "times": times.tolist(),
        "errors": errors.tolist(),
        "seconds": round(time.monotonic() - started, 1),
    }
    calibration.write(path, plan, facts)
    bits = int(plan.budget.sum()) / dims
    console.say(f"{len(plan.times) - 1} steps out of {sched.T}: {' '.join(map(str, plan.times))}")
    console.say(f"paths of {bits:.3f} bits/dim on average, before the last layer")
    console.say(f"calibration {path}; files written with another one cannot be read with it")


def calibration_path(run: Run) -> epath.Path:
    """The calibration of the checkpoint that programs will read if it is intact."""
    step = state.step_to_read(run)
    assert step is not None, "modes that need a calibration need a checkpoint"
    return calibration.file_path(run.directory, step, run.prefix)
