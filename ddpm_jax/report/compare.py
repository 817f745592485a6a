"""--mode=compare: several runs side by side. What differs in config, curves, numbers, samples of the same seeds."""

import math
import re
from typing import Any

import numpy as np
from etils import epath

from ddpm_jax.evaluation import results
from ddpm_jax.figures import trajectories
from ddpm_jax.figures.trajectories import TrainedRun, Walk
from ddpm_jax.report import compare_page, comparison, comparison_table
from ddpm_jax.report.comparison import Side
from ddpm_jax.run import run as runs
from ddpm_jax.run import sampling, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, figure_files, files, paths, plotting, resumable, signals, text

IMAGES = 8  # samples of each run


def compare(runs: list[Run], output: str | None) -> None:
    """Writes compare.json, .md and .html, curves and samples as PNG and PDF, and prints the table.

    Raises Stopped after a signal; finished batches of samples are kept.
    """
    folder = output_folder(runs, output)
    seed = runs[0].sample.seed
    sides, images = [], []
    for name, run in zip(comparison.names(runs), runs, strict=True):
        signals.check(f"before the samples of {name}")
        step, params = state.read_weights(run)
        images.append(
            draw(run._replace(sample=run.sample._replace(seed=seed)), step, params, folder)
        )
        sides.append(read_side(name, run, step))
    found = comparison.compare(sides)
    record = comparison_table.record(sides, found) | {"samples": {"images": IMAGES, "seed": seed}}
    files.write_json(folder / "compare.json", record)
    files.write(folder / "compare.md", comparison_table.markdown(sides, found))
    sheet = plotting.sheet(
        np.stack(comparison.equal_sizes(images)), [text.literal(side.name) for side in sides], []
    )
    figure_files.save(folder / "samples", sheet)
    panels = comparison_table.panels(sides, found)
    if panels:
        figure_files.save(folder / "curves", plotting.plots(panels))
    files.write(folder / "compare.html", compare_page.page(sides, found, folder, seed))
    console.say(comparison_table.markdown(sides, found))
    console.say(f"compared {folder}/compare.html, .md, .json, curves and samples as .png and .pdf")


def check(runs: list[Run], output: str | None) -> None:
    """Raises ValueError if the output cannot be written."""
    folder = output_folder(runs, output)
    paths.check_literal(folder, "--output")
    files.check_writable(folder, "", flag="--output")


def output_folder(runs: list[Run], output: str | None) -> epath.Path:
    """Returns the folder to write to: --output, or one beside the first run, named after up to three."""
    if output:
        return epath.Path(output)
    names = [re.sub(r"\W+", "-", name) for name in comparison.names(runs)]
    more = f"-and-{len(names) - 3}-more" if len(names) > 3 else ""
    return runs[0].directory.parent / f"compare-{'-'.join(names[:3])}{more}"


def read_side(name: str, run: Run, step: int) -> Side:
    """Returns what the files of a run say."""
    found = results.measurements(run.directory, run.prefix)
    return Side(
        name=name,
        run=run,
        step=step,
        training=results.training_curves(run.directory),
        measured=results.measured_curves(found),
        numbers=comparison.newest([each for each in found if each.step == step]),
    )


def draw(run: Run, step: int, params: Any, folder: epath.Path) -> np.ndarray:
    """Returns the first samples of a run: from samples/ if they are there, or drawn now."""
    images = sampling.find_samples(run, step, IMAGES)
    if images is not None:
        return images
    size = math.ceil(IMAGES / run.mesh.size) * run.mesh.size
    size = min(size, run.sample.batch_size)
    facts = (f"{run.directory}", step, run.sample.chain.name, run.sample.seed)
    digests = sampling.weight_digests(params, run.sample.chain)
    console.say(f"sampling {IMAGES} images of {run.directory} at step {step}")
    with resumable.parts_folder(folder / "samples", *facts, digests, *runs.rounding(run)) as kept:
        program = sampling.make_program(run.model, run.sample.chain)
        trained = TrainedRun(run, step, params, program, kept)
        walk = Walk((0, program.steps), np.arange(IMAGES))
        (seen,) = trajectories.run_walks(trained, "compare", [walk], size=size)
    return trajectories.to_bytes(seen[-1], run.model.levels)
