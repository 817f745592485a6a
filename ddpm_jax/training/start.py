"""What training starts from: a checkpoint or initial weights, and what is said of the run."""

import jax
import numpy as np
from absl import logging
from clu import parameter_overview
from jaxtyping import Int

from ddpm_jax.datasets import batches, pixels
from ddpm_jax.datasets.source import Indices, Source
from ddpm_jax.diffusion import Schedule
from ddpm_jax.distributed import mesh
from ddpm_jax.run import record, sampling
from ddpm_jax.run import state as states
from ddpm_jax.run.run import Run
from ddpm_jax.run.state import TrainState
from ddpm_jax.runtime import checkpoint, console, images

LABELS = 20  # labels read for each image that is shown
MAX_SIGNAL = 0.01  # the signal-to-noise ratio of x_T up to which it passes for noise


def resume_or_initialize(run: Run) -> TrainState:
    """Restores the newest intact checkpoint, or initialises a state; sets damaged checkpoints aside."""
    params = states.abstract(run).params
    logging.info("\n%s", parameter_overview.get_parameter_overview(params, include_stats=False))
    count = parameter_overview.count_parameters(params)
    shape = "x".join(map(str, run.model.shape))
    console.say(
        f"{count:,} parameters, {shape} images of {run.data.name},"
        f" {run.mesh.size} {run.mesh.devices.flat[0].device_kind} device(s)"
    )
    signal = describe_signal(run.model.sched)
    if signal and not run.model.classifies:
        console.say(signal)
    newest = states.read_newest(run)
    if newest is None:
        return jax.jit(lambda: states.initial(run), out_shardings=states.shardings(run))()
    step, state, damaged = newest
    for path in checkpoint.set_aside(run.checkpoints, damaged if mesh.is_first_process() else ()):
        console.say(f"set aside as {path}")
    console.say(f"resuming from step {step}")
    return states.forget_skipped(run, state)


def describe_signal(sched: Schedule) -> str:
    """Returns a line for a schedule whose x_T is not noise, else "".

    The signal-to-noise ratio is that of data with a mean square of 1, the largest on [-1, 1]. It is
    alpha_bar / (1 - alpha_bar) and, for a variance-exploding process, 1 / sigma_max^2.
    """
    alpha_bar = float(sched.alpha_bar[-1])
    ratio = alpha_bar / (1.0 - alpha_bar)
    if ratio <= MAX_SIGNAL:
        return ""
    return (
        f"x_T is not noise: its signal-to-noise ratio is {ratio:.3g}, above {MAX_SIGNAL:g} (T ="
        f" {sched.T}, alpha_bar_T = {alpha_bar:.3g}), but samples start from noise; raise T, or the"
        " schedule's noise at T"
    )


def show_images(run: Run, source: Source, step: int) -> None:
    """Writes samples/training-images.png: the first training images, as they are trained on, like a sample grid.

    A run that is resumed at 'step' keeps the file that it has.
    """
    path = run.directory / "samples" / record.TRAINING_IMAGES
    if not run.train.sample_every or (step > 0 and path.exists()):
        return
    count = min(run.train.grid.count, source.count)
    classes = sampling.classes_in_turn(run.model, run.train.grid.chain)
    order = batches.batch_indices(source.count, run.seed, min(LABELS * count, source.count), 0)
    chosen = take_in_turn(order, source.labels(order), count, classes) if classes else None
    if chosen is None:
        chosen, classes = order[:count], 0
    shown = pixels.stretch(source.read(chosen), source.levels)
    images.write_png(path, images.grid(shown, classes))


def take_in_turn(
    order: Indices, labels: Indices, count: int, classes: int
) -> Int[np.ndarray, " count"] | None:
    """Returns 'count' of the indices, number i of class i modulo 'classes'; None if a class has too few."""
    places = [np.flatnonzero(labels == label) for label in range(classes)]
    if any(len(each) < -(-(count - label) // classes) for label, each in enumerate(places)):
        return None
    return order[[places[i % classes][i // classes] for i in range(count)]]
