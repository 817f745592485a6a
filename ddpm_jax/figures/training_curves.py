"""Training over its steps: loss, gradient norm and learning rate as logged, bound and scores as evaluated."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from ddpm_jax.evaluation import results
from ddpm_jax.evaluation.results import Curve, Measurement
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import files, plotting
from ddpm_jax.runtime.plotting import Figure, Line, Plot

LOGGED = {
    "loss": "training loss",
    "grad_norm": "norm of the gradient",
    "learning_rate": "learning rate",
}
POINTS = 400  # of a logged curve at most, so that the PDF of a long run stays small
SMOOTHED = 50  # points from which on a smoothed line is drawn
PART = 25  # that part of a curve's points is what a point of its smoothed line is the mean of
COLUMNS = 3
Values = Float64[np.ndarray, " n"]


def check(run: Run) -> None:
    """Raises ValueError if nothing was logged and nothing measured."""
    if not results.training_curves(run.directory) and not scores(run):
        raise ValueError(
            f"--figures=training has nothing to draw: {run.directory} has neither metrics.jsonl, which"
            f" training writes, nor an evaluation; measure it: ddpm evaluate {run.directory}"
        )


def scores(run: Run) -> list[Measurement]:
    """Returns what was measured, without the distances between real images."""
    found = results.measurements(run.directory, run.prefix)
    return [each for each in found if not each.name.startswith("floor_")]


def training(trained: TrainedRun) -> Figure:
    """What training logged, faint, below a smoothed line of it; what was measured, with standard errors."""
    run = trained.run
    logged = {
        name: thin(curve)
        for name, curve in results.training_curves(run.directory).items()
        if name in LOGGED
    }
    found = scores(run)
    panels = [logged_plot(name, logged[name]) for name in LOGGED if name in logged]
    panels += measured_plots(run, found)
    last = max(step for panel in panels for line in panel.lines for step in line.x if step)
    panels = [panel._replace(x_range=(0, last)) for panel in panels]
    facts: dict[str, Any] = {
        "logged": {
            name: {"steps": curve.steps, "values": curve.values} for name, curve in logged.items()
        },
        "measured": {
            name: curve._asdict() for name, curve in results.measured_curves(found).items()
        },
    }
    return Figure({"": plotting.plots(panels, COLUMNS)}, facts)


def thin(curve: Curve) -> Curve:
    """Returns the means of a curve over at most POINTS windows of equally many rows."""
    if len(curve.steps) <= POINTS:
        return curve
    steps, values = np.asarray(curve.steps), np.asarray(curve.values)
    windows = np.array_split(np.arange(len(steps)), POINTS)
    return Curve(
        steps=[round(float(steps[rows].mean())) for rows in windows],
        values=[float(values[rows].mean()) for rows in windows],
        errors=[None] * POINTS,
    )


def smooth(values: Values) -> Values:
    """Returns means over windows centred on each point, which are narrower at the ends."""
    count = len(values)
    places = np.arange(count)
    half = np.minimum(np.minimum(places, count - 1 - places), count // (2 * PART) + 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[places + half + 1] - sums[places - half]) / (2 * half + 1)


def logged_plot(name: str, curve: Curve) -> Plot:
    """The plot of a logged curve; those that are means over batches are smoothed, on a logarithmic axis."""
    label = LOGGED[name]
    if name == "learning_rate":
        return Plot("training step", label, [Line(curve.steps, curve.values)])
    values = np.asarray(curve.values)
    log_y = bool(values.min() > 0.0)
    if len(values) < SMOOTHED:
        lines = [Line(curve.steps, curve.values)]
    else:
        smoothed = np.exp(smooth(np.log(values))) if log_y else smooth(values)
        lines = [Line(curve.steps, curve.values, faint=True), Line(curve.steps, smoothed.tolist())]
    return Plot("training step", label, lines, log_y=log_y)


def measured_plots(run: Run, found: Sequence[Measurement]) -> list[Plot]:
    """A plot for each number, in which the splits that it was measured on or against are lines."""
    how = {each.name: each.how for each in found}
    splits = {run.data.held_out: "held-out", run.data.split: "training"}
    ends = {f"_{files.file_name_part(split)}": word for split, word in splits.items() if split}
    by_label: dict[str, dict[str, Curve]] = {}
    for name, curve in results.measured_curves(found).items():
        label = results.title(name).partition(", ")[0]
        if "samples" in how[name]:
            label += f", {how[name]['samples']:,} samples"
        word = next((ends[end] for end in ends if name.endswith(end)), "")
        by_label.setdefault(label, {})[word] = curve
    return [measured_plot(label, curves) for label, curves in by_label.items()]


def measured_plot(label: str, curves: Mapping[str, Curve]) -> Plot:
    """The plot of a number of samples and of real images (the key ""), or of the first against the second."""
    against = "" if "" in curves or "samples" not in label else "against "
    lines = [
        Line(
            curve.steps,
            curve.values,
            label=(f"{against}{split}" if split else "samples") if len(curves) > 1 else "",
            errors=curve.errors,
            dots=True,
        )
        for split, curve in curves.items()
    ]
    return Plot("training step", label, lines)
