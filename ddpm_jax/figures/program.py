"""The figures program: the table of figures, their checks and their files."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ddpm_jax.figures import (
    compression,
    film,
    forward,
    guidance,
    inversion,
    latents,
    nearest,
    ode,
    rate_distortion,
    samples,
    solvers,
    training_curves,
)
from ddpm_jax.figures.rate_distortion import NotEvaluated
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.run import run as runs
from ddpm_jax.run import sampling, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import animation, console, figure_files, files, resumable, signals
from ddpm_jax.runtime.plotting import Figure


class Entry(NamedTuple):
    """A value of --figures: its function, its title, and a check that raises ValueError before anything is drawn.

    'all' excludes figures that are not in the paper: they compile a program per point, need a certain
    kind of network, or are films.
    """

    draw: Callable[[TrainedRun], Figure]
    title: str
    check: Callable[[Run], None] = lambda run: None
    in_all: bool = True


ALL = "all"
FIGURES = {
    "forward": Entry(forward.forward, "the forward process"),
    "grid": Entry(samples.grid, "samples"),
    "progressive": Entry(samples.progressive, "x_0-hat on the way to samples"),
    "rate_distortion": Entry(
        rate_distortion.rate_distortion, "rate and distortion", rate_distortion.check
    ),
    "shared_latents": Entry(latents.shared_latents, "samples that share x_t"),
    "interpolation": Entry(
        latents.interpolation, "interpolation between real images", latents.check
    ),
    "coarse_to_fine": Entry(
        latents.coarse_to_fine, "interpolation after fewer and fewer steps of noise", latents.check
    ),
    "nearest": Entry(nearest.nearest, "the nearest training images", nearest.check),
    "solvers": Entry(solvers.solvers, "solvers in few steps", solvers.check, in_all=False),
    "guidance": Entry(guidance.guidance, "scales of guidance", guidance.check, in_all=False),
    "inversion": Entry(
        inversion.inversion, "images to latents and back", inversion.check, in_all=False
    ),
    "compression": Entry(
        compression.compression, "compressed files", compression.check, in_all=False
    ),
    "ode": Entry(ode.ode, "the probability-flow ODE", ode.check, in_all=False),
    "training": Entry(training_curves.training, "training", training_curves.check, in_all=False),
    "film": Entry(film.film, "from noise to image", in_all=False),
}


def select(names: Sequence[str]) -> list[str]:
    """Returns the figures of --figures in the table's order. Raises ValueError for an unknown name."""
    for name in names:
        if name not in FIGURES and name != ALL:
            raise ValueError(
                f"--figures: unknown figure {name!r}; {files.suggest(name, [*FIGURES, ALL])}"
            )
    if not names:
        raise ValueError(f"--figures is empty; choose from {', '.join([ALL, *FIGURES])}")
    return [
        name for name, entry in FIGURES.items() if name in names or (ALL in names and entry.in_all)
    ]


def check(run: Run, figures: Sequence[str]) -> None:
    """Raises ValueError for anything wrong that can be found before a figure is drawn."""
    for name in select(figures):
        try:
            FIGURES[name].check(run)
        except NotEvaluated:
            if name in figures:  # else 'all' draws the others
                raise


def figures(run: Run, figures: Sequence[str]) -> None:
    """Writes figures/<step>-<name>.png, .pdf and .json, or .gif and .webp of a film. Raises Stopped after a signal.

    Samples drawn by an interrupted call are not drawn again. A figure depends on nothing but the
    checkpoint, the data and the config; 'nearest' also counts near copies among all samples that it finds.
    """
    names = select(figures)
    step, params = state.read_weights(run)
    console.say(f"figures at step {step}, {run.sample.chain.name}: {', '.join(names)}")
    determinants = (
        names,
        facts(run, step),
        sampling.weight_digests(params, run.sample.chain),
        *runs.rounding(run),
    )
    with resumable.parts_folder(
        run.directory / "figures" / f"{run.prefix}{step}", *determinants
    ) as kept:
        program = sampling.make_program(run.model, run.sample.chain)
        trained = TrainedRun(run, step, params, program, kept)
        for number, name in enumerate(names):
            signals.check(f"with {number} of {len(names)} figures done")
            draw(trained, name)


def draw(trained: TrainedRun, name: str) -> None:
    """Draws a figure and writes its files; without the evaluation that it needs, says so instead."""
    run, step = trained.run, trained.step
    try:
        figure = FIGURES[name].draw(trained)
    except NotEvaluated as error:
        console.say(str(error))
        return
    path = run.directory / "figures" / f"{step}-{run.prefix}{name}"
    record = {"figure": name, **facts(run, step), **figure.facts}
    what = "; ".join(filter(None, [FIGURES[name].title, figure.note]))
    for suffix, page in figure.pages.items():
        title = runs.title(run, what, step, record["solver"])
        figure_files.save(path.with_name(path.name + suffix), page, title)
    for suffix, frames in figure.films.items():
        animation.save(path.with_name(path.name + suffix), frames)
    files.write_json(path.with_name(f"{path.name}.json"), record)
    formats = (".png, .pdf, " if figure.pages else "") + (".gif, .webp, " if figure.films else "")
    console.say(f"figure   {path}{formats}.json")


def facts(run: Run, step: int) -> dict[str, Any]:
    """The facts that all figures share."""
    return {
        "step": step,
        "weights": run.weights,
        "data": run.data.name,
        "T": run.model.sched.T,
        "solver": run.sample.chain.name,
        "seed": run.sample.seed,
    }
