"""The figure of --follow: the numbers of all evaluated checkpoints against the training step, and the best of them."""

from collections.abc import Mapping

import numpy as np

from ddpm_jax.evaluation import results
from ddpm_jax.evaluation.results import Measurement
from ddpm_jax.run import run as runs
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import figure_files, plotting
from ddpm_jax.runtime.plotting import Line, Mark, Plot

# FID of tqch/ddpm-torch's CIFAR-10 run, a faithful one (its README): 50,000 samples against the training set.
FAITHFUL = {46_800: 9.162, 93_600: 5.778, 187_200: 4.083, 421_200: 3.31, 795_600: 3.188}
FAITHFUL_METRIC = "fid_50k_train"


def draw(run: Run, rows: Mapping[int, Mapping[str, float]], name: str, best: int) -> None:
    """Draws figures/history: the number that chooses the best step, with that step marked, and the bounds."""
    found: dict[tuple[int, str, float | None], Measurement] = {
        (each.step, each.name, each.value): each
        for each in results.measurements(run.directory, run.prefix)
    }
    steps = sorted(rows)
    bounds = [other for other in rows[steps[-1]] if other.startswith(f"{results.BOUND}_")]
    panels = []
    for each in dict.fromkeys([name, *bounds]):
        values = [rows[step].get(each) for step in steps]
        measured = [
            found.get((step, each, value)) for step, value in zip(steps, values, strict=True)
        ]
        errors = [one.error if one else None for one in measured]
        lines = [Line(steps, values, errors=errors, dots=True)]
        if is_comparable(run, each):
            published = Line(list(FAITHFUL), list(FAITHFUL.values()), "tqch/ddpm-torch", "o")
            lines = [lines[0]._replace(label="this run"), published]
        text = f"best: {rows[best][name]:.4g} at step {best:,}"
        mark = Mark(best, rows[best][name], text) if each == name else None
        panels.append(Plot("training step", axis_label(run, each, measured[-1]), lines, mark=mark))
    title = runs.title(run, "evaluated checkpoints", steps[-1], run.sample.chain.name)
    path = run.directory / "figures" / f"{run.prefix}history"
    figure_files.save(path, plotting.plots(panels), title)


def axis_label(run: Run, name: str, measurement: Measurement | None) -> str:
    """Returns a number's name in words with its unit: "FID, 50,000 samples", "bound in bits/dim (held-out)"."""
    words = results.title(name).partition(", ")[0]
    how = measurement.how if measurement else {}
    if "samples" in how:
        return f"{words}, {how['samples']:,} samples"
    if "split" in how:
        splits = {run.data.held_out: "held-out", run.data.split: "training"}
        return f"{words} ({splits.get(how['split'], how['split'])})"
    return results.title(name)


def is_comparable(run: Run, name: str) -> bool:
    """Whether a number can be compared with the faithful run's."""
    return name == FAITHFUL_METRIC and run.data.name == "cifar10"


def faithful_fid(step: int) -> float:
    """The faithful run's FID, interpolated between its points on logarithmic scales."""
    steps, values = np.log(list(FAITHFUL)), np.log(list(FAITHFUL.values()))
    return float(np.exp(np.interp(np.log(step), steps, values)))
