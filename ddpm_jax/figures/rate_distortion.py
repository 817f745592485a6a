"""Figure 5 and Table 4: rate and distortion of a progressive code, from the numbers of an evaluation."""

import json
from typing import Any

import numpy as np
from etils import epath

from ddpm_jax.evaluation import bound
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.run import state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Line, Plot

TABLE_4 = {  # CIFAR-10, test set, T = 1000
    "reverse_step": [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100],
    "rate": [1.77581, 0.11994, 0.05415, 0.02866, 0.01507, 0.00716, 0.00282, 0.00081, 0.00013, 0.0],
    "rmse": [0.95136, 12.02277, 18.47482, 24.43656, 30.80948]
    + [38.03236, 46.12765, 54.18826, 60.97170, 67.60125],
}
AXES = {
    "reverse_step": "reverse process steps ($T - t + 1$)",
    "rmse": "distortion (RMSE, 0–255)",
    "rate": "rate (bits/dim)",
}
RECORDED = ("images", "split", "steps", "bits_per_dim", "prior")  # copied from the evaluation


class NotEvaluated(ValueError):
    """The terms of the bound have not been measured at this step."""


def check(run: Run) -> None:
    """Raises NotEvaluated if the checkpoint to read has no evaluation."""
    step = state.step_to_read(run)
    if step is not None:
        find_evaluation(run, step)


def find_evaluation(run: Run, step: int, what: str = "rate_distortion") -> epath.Path:
    """Finds the file with the bound's terms, that of the held-out split if there is one.

    Raises NotEvaluated, naming what is left out and the command to run, if there is no such file.
    """
    held_out = bound.record_path(run, step, run.data.held_out)
    for path in (held_out, *bound.record_paths(run, step)):
        if "terms" in read(path):
            return path
    enabled = (run.eval.images and run.data.held_out) or run.eval.train_images
    field = "images" if run.data.held_out else "train_images"
    option = "" if enabled else f" --config.eval.{field}=N"
    raise NotEvaluated(
        f"no {what}: {held_out.parent} has no terms of the bound at step {step}; compute them:"
        f" ddpm evaluate {run.directory}{option}"
    )


def read(path: epath.Path) -> dict[str, Any]:
    """Reads an evaluation; {} if the file is missing or damaged, as a new evaluation mends both."""
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        return {}


def curve(terms: dict[str, list], prior: float, T: int) -> dict[str, list[float]]:
    """Rate (bits/dim) and distortion of x_0-hat(x_t) once x_T, ..., x_t are sent. Sec. 4.3.

    A stratum of several steps is represented by its middle, where half of its other steps have been sent.
    """
    first, size, bits = (
        np.asarray(terms[name], np.float64) for name in ("first", "size", "bits_per_dim")
    )
    below = np.cumsum(bits)
    rate = prior + (below[-1] - below) + bits * (size - 1) / (2 * size)
    t = first + (size - 1) / 2
    return {
        "t": t.tolist(),
        "reverse_step": (T - t + 1).tolist(),
        "rate": rate.tolist(),
        "rmse": list(terms["rmse"]),
    }


def rate_distortion(trained: TrainedRun) -> Figure:
    """Distortion and rate over reverse time, and against each other. Raises NotEvaluated."""
    run = trained.run
    path = find_evaluation(run, trained.step)
    evaluation = read(path)
    own = curve(evaluation["terms"], evaluation["prior"], run.model.sched.T)
    compared = run.data.name == "cifar10" and run.model.sched.T == 1000

    def plot(x: str, y: str) -> Plot:
        lines = [Line(own[x], own[y], "this run" if compared else "")]
        if compared:
            lines.append(Line(TABLE_4[x], TABLE_4[y], "Ho et al., Table 4", marker="o"))
        return Plot(AXES[x], AXES[y], lines)

    pairs = ("reverse_step", "rmse"), ("reverse_step", "rate"), ("rate", "rmse")
    facts = {
        "evaluation": path.name,
        **{name: evaluation[name] for name in RECORDED if name in evaluation},
        "distortion_bits_per_dim": evaluation["terms"]["bits_per_dim"][0],
        "rate_bits_per_dim": evaluation["prior"] + sum(evaluation["terms"]["bits_per_dim"][1:]),
        **own,
        "paper_table_4_cifar10": TABLE_4 | {"drawn": compared},
    }
    return Figure({"": plotting.plots([plot(*pair) for pair in pairs])}, facts)
