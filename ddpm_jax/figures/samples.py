"""Samples, and x_0-hat along the way to them: Figures 1, 3, 11, 13, 16-19, and 6, 10, 14."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from ddpm_jax.datasets.source import Bytes
from ddpm_jax.evaluation import embedding, real_images, spaces
from ddpm_jax.figures import trajectories
from ddpm_jax.figures.trajectories import TrainedRun, Walk
from ddpm_jax.metrics import frechet, inception_score, metric
from ddpm_jax.metrics.features import Space, Statistics
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import images as image_output
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Cells, Figure, Header, Line, Plot

LARGE = 64  # pixels of height above which a grid shows 64 images; up to it, 256
IMAGES = 16  # of 'progressive' if their quality is not measured
BYTES = 2**32  # of all x_0-hats that 'progressive' holds: 66,576 images of 32x32, 1040 of 256x256
GROUP_VALUES = 2**28  # of x_0-hats that are held as floats at a time
ROWS = 6  # images shown
TIMES = 21  # at which x_0-hat is observed; every second one is shown
Errors = Float64[np.ndarray, "m n"]


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
    """The first samples of the run's own sampler, without selection; with classes, each in rows of its own."""
    images = first_samples(trained, grid_size(trained))
    classes = sampling.classes_in_turn(trained.run.model, trained.run.sample.chain)
    places = image_output.layout(len(images), classes)
    with_empty = np.concatenate([images, np.full_like(images[:1], 255)])
    rows = class_names(trained.run, places, classes)
    figure = plotting.sheet(with_empty[places], rows, [])
    return Figure({"": figure}, {"images": len(images), "numbers": list(range(len(images)))})


def class_names(run: Run, places: image_output.Places, classes: int) -> list[str]:
    """Returns the texts beside the rows of a grid: the name of each class at its first row; [] without classes."""
    if (
        not classes
        or (places % classes != places[:, :1] % classes)[places != image_output.EMPTY].any()
    ):
        return []
    names = run.labels if run.labels and len(run.labels) == classes else range(classes)
    each = len(places) // classes
    return [f"{names[i // each]}" if i % each == 0 else "" for i in range(len(places))]


def progressive(trained: TrainedRun) -> Figure:
    """x_0-hat along the reverse process, and its quality: Figs. 6, 10 and 14.

    The quality is the distance from the final sample and, if the run has a feature space, the Frechet
    distance of x_0-hats from the training images and the Inception Score, of eval.quality.samples images.
    """
    program, distance = trained.program, frechet_distance(trained)
    marks = tuple(dict.fromkeys(np.linspace(0, program.steps, TIMES).round().astype(int).tolist()))
    count = IMAGES if distance is None else quality_images(trained, len(marks))
    x_0_hats, rmse = predict(trained, marks, count)
    times = [int(program.times[mark]) for mark in marks]
    facts = {"times": times, "images": count, "shown": times[::2]} | errors(rmse)
    names = {"rmse": "RMSE (0–255)", "psnr": "PSNR (dB)"}
    if distance is not None:
        labels, found = quality(distance, x_0_hats, times)
        facts |= found
        names |= {name: f"{label}\n({count:,} images)" for name, label in labels.items()}
    figure = plotting.sheet(
        x_0_hats[::2, :ROWS].swapaxes(0, 1),
        rows=[],
        headers=[Header(i, i, f"$t = {t}$") for i, t in enumerate(times[::2])],
    )
    reverse = [int(program.times[0]) - t for t in times]
    panels = [
        Plot("reverse process steps ($T - t$)", label, [Line(reverse, facts[name])])
        for name, label in names.items()
    ]
    return Figure({"": figure, "-quality": plotting.plots(panels)}, facts)


def quality_images(trained: TrainedRun, times: int) -> int:
    """The number of images whose quality 'progressive' measures: as many as eval.quality.samples, or as fit."""
    fitting = BYTES // (times * math.prod(trained.run.model.shape))
    return max(IMAGES, min(trained.run.eval.quality.samples, fitting))


def predict(trained: TrainedRun, marks: tuple[int, ...], count: int) -> tuple[Cells, Errors]:
    """Returns x_0-hat of images 0..count - 1 at each mark, as files of samples are, and its RMSE to the last."""
    run = trained.run
    size = run.sample.batch_size if count > run.sample.batch_size else 0
    batch = size or trajectories.batch_size(run)
    group = batch * max(1, GROUP_VALUES // (batch * len(marks) * math.prod(run.model.shape)))
    images, rmse = [], []
    for first in range(0, count, group):
        walk = Walk(marks, np.arange(first, min(first + group, count)))
        (seen,) = trajectories.run_walks(
            trained, f"progressive-{first}", [walk], trajectories.observe_x_0, size
        )
        images.append(trajectories.to_bytes(seen, run.model.levels))
        rmse.append(trajectories.rmse(seen, seen[-1]))
    return np.concatenate(images, axis=1), np.concatenate(rmse, axis=1)


class Distance(NamedTuple):
    """The Frechet distance from the training images in a feature space."""

    space: Space
    real: Statistics

    @property
    def name(self) -> str:
        """Its name in files."""
        return "fid" if self.space.name == "inception" else f"frechet_{self.space.name}"

    def measure(self, images: Bytes) -> float:
        return frechet.distance(frechet.statistics(self.space.features(images).vectors), self.real)


def frechet_distance(trained: TrainedRun) -> Distance | None:
    """Returns the distance in the feature space of the run's evaluation; None if it has none."""
    run = trained.run
    space = spaces.available(run)
    if space is None:
        return None
    return Distance(space, real_images.embed(run, space, run.data.split).statistics)


def quality(
    distance: Distance, x_0_hats: Cells, times: Sequence[int]
) -> tuple[dict[str, str], dict[str, list]]:
    """Frechet distances over time and, in a classifier's space, Inception Scores: their labels and values."""
    space = distance.space
    embedded = [
        embedding.embed(space, len(images), lambda rows, images=images: images[rows], f"t = {t}")
        for images, t in zip(x_0_hats, times, strict=True)
    ]
    labels = {distance.name: "FID" if distance.name == "fid" else "Fréchet distance"}
    values = {
        distance.name: [frechet.distance(each.statistics, distance.real) for each in embedded]
    }
    scores = [each.inception_score for each in embedded if each.inception_score is not None]
    if scores:
        name = metric.stem(inception_score.INCEPTION_SCORE, space.name)
        labels[name] = "Inception Score"
        values[name], values[f"{name}_std"] = ([*column] for column in zip(*scores, strict=True))
    return labels, values


def errors(rmse: Errors) -> dict[str, Any]:
    """RMSE and PSNR of every x_0-hat against the last one, averaged over images; None for infinite PSNR."""
    standard_error = rmse.std(axis=1, ddof=1) / math.sqrt(rmse.shape[1])
    psnr = [float(np.mean(20.0 * np.log10(255.0 / each))) if each.all() else None for each in rmse]
    return {
        "rmse": rmse.mean(axis=1).tolist(),
        "rmse_standard_error": standard_error.tolist(),
        "psnr": psnr,
    }
