"""Samples, and x_0-hat along the way to them: Figures 1, 3, 11, 13, 16-19, and 6, 10, 14."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ddpm_jax.datasets.source import Bytes
from ddpm_jax.evaluation import real_images, spaces
from ddpm_jax.figures import trajectories
from ddpm_jax.figures.trajectories import Snapshots, TrainedRun, Walk
from ddpm_jax.metrics import frechet
from ddpm_jax.run import sampling
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Header, Line, Plot

LARGE = 64  # pixels of height above which a grid shows 64 images; up to it, 256
IMAGES = 16  # of 'progressive' if no Frechet distance is computed
MAX_IMAGES = 2000  # of 'progressive', because all their x_0-hats are in memory at once
ROWS = 6  # images shown
TIMES = 21  # at which x_0-hat is observed; every second one is shown


def first_samples(trained: TrainedRun, count: int) -> Bytes:
    """Returns the first 'count' samples of the run, at most sample.count: from samples/, or drawn now."""
    run = trained.run
    count = min(count, run.sample.count)
    images = sampling.find_samples(run, trained.step, count)
    if images is not None:
        return images
    drawing = run._replace(sample=run.sample._replace(count=count))
    return sampling.write_samples(drawing, trained.step, trained.params)


def grid_size(trained: TrainedRun) -> int:
    return 64 if trained.run.model.shape[0] > LARGE else 256


def grid(trained: TrainedRun) -> Figure:
    """The first samples of the run's own sampler in a square, without selection."""
    images = first_samples(trained, grid_size(trained))
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    cells = np.full((rows * columns, *images.shape[1:]), 255, np.uint8)
    cells[: len(images)] = images
    figure = plotting.sheet(cells.reshape(rows, columns, *images.shape[1:]), [], [])
    return Figure({"": figure}, {"images": len(images), "numbers": list(range(len(images)))})


def progressive(trained: TrainedRun) -> Figure:
    """x_0-hat along the reverse process, and its quality: Figs. 6, 10 and 14.

    The quality is the distance from the final sample and, if the run has a feature space, the Frechet
    distance of x_0-hats from the training images.
    """
    program, distance = trained.program, frechet_distance(trained)
    count = IMAGES if distance is None else max(IMAGES, frechet_samples(trained))
    marks = tuple(dict.fromkeys(np.linspace(0, program.steps, TIMES).round().astype(int).tolist()))
    walk = Walk(marks, np.arange(count))
    (x_0_hats,) = trajectories.run_walks(trained, "progressive", [walk], trajectories.observe_x_0)
    times = [int(program.times[mark]) for mark in marks]
    levels = trained.run.model.levels
    facts = {"times": times, "images": count, "shown": times[::2]} | errors(x_0_hats)
    names = {"rmse": "RMSE (0–255)", "psnr": "PSNR (dB)"}
    if distance is not None:
        facts[distance.name] = [
            distance.measure(trajectories.to_bytes(images, levels)) for images in x_0_hats
        ]
        names[distance.name] = "FID" if distance.name == "fid" else "Fréchet distance"
    figure = plotting.sheet(
        trajectories.to_bytes(x_0_hats[::2, :ROWS].swapaxes(0, 1), levels),
        rows=[],
        headers=[Header(i, i, f"$t = {t}$") for i, t in enumerate(times[::2])],
    )
    reverse = [int(program.times[0]) - t for t in times]
    panels = [
        Plot("reverse process steps ($T - t$)", label, [Line(reverse, facts[name])])
        for name, label in names.items()
    ]
    return Figure({"": figure, "-quality": plotting.plots(panels)}, facts)


def frechet_samples(trained: TrainedRun) -> int:
    """The number of images for a Frechet distance: eval.quality.samples, at most MAX_IMAGES."""
    return min(trained.run.eval.quality.samples, MAX_IMAGES)


class Distance(NamedTuple):
    """The Frechet distance of images from the training images, and its name in files."""

    name: str
    measure: Callable[[Bytes], float]


def frechet_distance(trained: TrainedRun) -> Distance | None:
    """Returns the distance in the feature space of the run's evaluation; None if it has none."""
    run = trained.run
    space = spaces.available(run)
    if space is None:
        return None
    real = real_images.embed(run, space, run.data.split).statistics

    def measure(images: Bytes) -> float:
        return frechet.distance(frechet.statistics(space.features(images).vectors), real)

    return Distance("fid" if space.name == "inception" else f"frechet_{space.name}", measure)


def errors(x_0_hats: Snapshots) -> dict[str, Any]:
    """RMSE and PSNR of every x_0-hat against the last one, averaged over images; None for infinite PSNR."""
    rmse = trajectories.rmse(x_0_hats, x_0_hats[-1])
    standard_error = rmse.std(axis=1, ddof=1) / math.sqrt(rmse.shape[1])
    psnr = [float(np.mean(20.0 * np.log10(255.0 / each))) if each.all() else None for each in rmse]
    return {
        "rmse": rmse.mean(axis=1).tolist(),
        "rmse_standard_error": standard_error.tolist(),
        "psnr": psnr,
    }
