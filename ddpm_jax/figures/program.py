"""The program: which figures, in what order, and where their files go."""

from collections.abc import Sequence
from typing import Any

from ddpm_jax.figures import (
    compression,
    guidance,
    inversion,
    latents,
    nearest,
    ode,
    rate_distortion,
    samples,
    solvers,
)
from ddpm_jax.figures.trajectories import Chains
from ddpm_jax.run import run as runs
from ddpm_jax.run import sampling, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint, console, files, plotting, resumable, signals

FIGURES = {
    "grid": samples.grid,
    "progressive": samples.progressive,
    "rate_distortion": rate_distortion.rate_distortion,
    "shared_latents": latents.shared_latents,
    "interpolation": latents.interpolation,
    "coarse_to_fine": latents.coarse_to_fine,
    "nearest": nearest.nearest,
    "solvers": solvers.solvers,
    "guidance": guidance.guidance,
    "inversion": inversion.inversion,
    "compression": compression.compression,
    "ode": ode.ode,
}
ALL = "all"
# No figures of the paper's, and each with what has to be right for it: they compile a program for every
# point, or are of some networks only.
ASKED_FOR = {
    "solvers": solvers.check,
    "guidance": guidance.check,
    "inversion": inversion.check,
    "compression": compression.check,
    "ode": ode.check,
}


def chosen(names: Sequence[str]) -> list[str]:
    """The figures of --figures. Raises ValueError for an unknown name."""
    for name in names:
        if name not in FIGURES and name != ALL:
            raise ValueError(
                f"--figures: unknown figure {name!r}; {files.suggest(name, [*FIGURES, ALL])}"
            )
    if not names:
        raise ValueError(f"--figures is empty; there is {', '.join([ALL, *FIGURES])}")
    of_all = [name for name in FIGURES if name not in ASKED_FOR] if ALL in names else []
    return [name for name in FIGURES if name in names or name in of_all]


def check(run: Run, figures: Sequence[str]) -> None:
    """Raises ValueError for what can be found wrong before anything is drawn."""
    wanted = chosen(figures)
    steps = checkpoint.list_steps(run.checkpoints)
    if "rate_distortion" in figures and steps and rate_distortion.evaluated(run, steps[-1]) is None:
        raise ValueError(rate_distortion.missing(run, steps[-1]))
    for name in ASKED_FOR.keys() & set(wanted):
        ASKED_FOR[name](run)
    if "nearest" in wanted:
        run.data.open(run.data.split)
    if {"interpolation", "coarse_to_fine", "ode"} & set(wanted):
        run.data.open(run.data.held_out or run.data.split)


def figures(run: Run, figures: Sequence[str]) -> None:
    """Writes figures/<step>-<name>.png, .pdf and .json; raises Stopped if asked to.

    What an interrupted call has sampled is not sampled again. Everything is a function of the
    checkpoint, the data and sample.seed.
    """
    wanted = chosen(figures)
    step, params = state.read_ema(run)
    program = sampling.make_program(run.model, run.sample.chain)
    folder = run.directory / "figures"
    console.say(f"figures at step {step}, {run.sample.chain.name}: {', '.join(wanted)}")
    decides = (
        wanted,
        facts(run, step),
        sampling.weight_digests(params, run.sample.chain),
        *runs.rounding(run),
    )
    with resumable.parts_folder(folder / f"{step}", *decides) as kept:
        trained = Chains(run, step, params, program, kept)
        for done, name in enumerate(wanted):
            signals.check(f"with {done} of {len(wanted)} figures done")
            draw(trained, name)


def draw(trained: Chains, name: str) -> None:
    run, step = trained.run, trained.step
    drawn = FIGURES[name](trained)
    if drawn is None:  # the only one that needs what another program makes
        console.say(rate_distortion.missing(run, step))
        return
    path = run.directory / "figures" / f"{step}-{name}"
    for ending, figure in drawn.pages.items():
        plotting.save(path.with_name(path.name + ending), figure)
    record = {"figure": name, **facts(run, step), **drawn.facts}
    files.write_json(path.with_name(f"{path.name}.json"), record)
    console.say(f"figure   {path}.png, .pdf, .json")


def facts(run: Run, step: int) -> dict[str, Any]:
    """What every figure is a function of."""
    return {
        "step": step,
        "weights": "ema",
        "data": run.data.name,
        "T": run.model.sched.T,
        "solver": run.sample.chain.name,
        "seed": run.sample.seed,
    }
