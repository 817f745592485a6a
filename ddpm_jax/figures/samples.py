"""Samples as they are, and how they come about: Figures 1, 3, 11, 13, 16-19, and 6, 10, 14."""

import math
from collections.abc import Callable

import numpy as np

from ddpm_jax.datasets.source import Bytes
from ddpm_jax.evaluation import quality
from ddpm_jax.figures import trajectories
from ddpm_jax.figures.trajectories import Chains, Seen, Walk
from ddpm_jax.metrics import frechet
from ddpm_jax.run import sampling
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Header, Line, Plot

LARGE = 64  # pixels of height; of larger images a grid shows 64, of smaller ones 256
IMAGES = 16  # whose x_0-hat is followed, or as many as are scored
MOST = 2000  # of those, as all their x_0-hats are held at once
ROWS = 6  # of them shown
TIMES = 21  # at which x_0-hat is looked at; every second one is shown


def first_samples(trained: Chains, count: int) -> Bytes:
    """The run's first 'count' samples, fewer if sample.count is less: out of samples/, or made now."""
    run = trained.run
    count = min(count, run.sample.count)
    there = sampling.find_samples(run, trained.step, count)
    if there is not None:
        return there
    wanted = run._replace(sample=run.sample._replace(count=count))
    return sampling.write_samples(wanted, trained.step, trained.params)


def grid_size(trained: Chains) -> int:
    return 64 if trained.run.model.shape[0] > LARGE else 256


def grid(trained: Chains) -> Figure:
    """Samples of the run's own sampler in a square, none picked."""
    images = first_samples(trained, grid_size(trained))
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    cells = np.full((rows * columns, *images.shape[1:]), 255, np.uint8)
    cells[: len(images)] = images
    figure = plotting.sheet(cells.reshape(rows, columns, *images.shape[1:]), [], [])
    return Figure({"": figure}, {"images": len(images), "numbers": list(range(len(images)))})


def progressive(trained: Chains) -> Figure:
    """x_0-hat along the reverse process, and how good it is: Figs. 6, 10 and 14.

    Its distance from the sample that it becomes and, where the run's scores have a space, the
    Frechet distance of x_0-hats from the training images.
    """
    program, distance = trained.program, frechet_distance(trained)
    count = IMAGES if distance is None else max(IMAGES, min(asked(trained), MOST))
    marks = tuple(dict.fromkeys(np.linspace(0, program.steps, TIMES).round().astype(int).tolist()))
    walk = Walk(marks, np.arange(count))
    (seen,) = trajectories.go(trained, "progressive", [walk], trajectories.x_0_guess)
    times = [int(program.times[mark]) for mark in marks]
    levels = trained.run.model.levels
    facts = {"times": times, "images": count, "shown": times[::2]} | closeness(seen)
    names = {"rmse": "RMSE (0–255)", "psnr": "PSNR (dB)"}
    if distance is not None:
        name, of = distance
        facts[name] = [of(trajectories.shown(each, levels)) for each in seen]
        names[name] = "FID" if name == "fid" else "Fréchet distance"
    figure = plotting.sheet(
        trajectories.shown(seen[::2, :ROWS].swapaxes(0, 1), levels),
        rows=[],
        headers=[Header(i, i, f"$t = {t}$") for i, t in enumerate(times[::2])],
    )
    reverse = [int(program.times[0]) - t for t in times]
    panels = [
        Plot("reverse process steps ($T - t$)", label, [Line(reverse, facts[name])])
        for name, label in names.items()
    ]
    return Figure({"": figure, "-quality": plotting.plots(panels)}, facts)


def asked(trained: Chains) -> int:
    return trained.run.eval.quality.samples


def frechet_distance(trained: Chains) -> tuple[str, Callable[[Bytes], float]] | None:
    """Its name and itself, of images from the training images, in the space of the run's scores."""
    run = trained.run
    space = quality.available_space(run)
    if space is None:
        return None
    real = quality.reference(run, space, run.data.split).statistics

    def distance(images: Bytes) -> float:
        return frechet.distance(frechet.statistics(space.features(images).vectors), real)

    return ("fid" if space.name == "inception" else f"frechet_{space.name}"), distance


def closeness(seen: Seen) -> dict[str, list]:
    """RMSE and PSNR of every x_0-hat against the last one, means over images; no PSNR of no error."""
    errors = trajectories.rmse(seen, seen[-1])
    spread = errors.std(axis=1, ddof=1) / math.sqrt(errors.shape[1])
    psnr = [
        float(np.mean(20.0 * np.log10(255.0 / each))) if each.all() else None for each in errors
    ]
    return {
        "rmse": errors.mean(axis=1).tolist(),
        "rmse_standard_error": spread.tolist(),
        "psnr": psnr,
    }
