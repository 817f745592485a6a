"""Figure 5 and Table 4: distortion and rate of a progressive code, from an evaluation's numbers."""

import json
from typing import Any

import numpy as np
from etils import epath

from ddpm_jax.figures.trajectories import Chains
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import files, plotting
from ddpm_jax.runtime.plotting import Figure, Line, Plot

TABLE_4 = {  # CIFAR-10, test set, T = 1000
    "reverse_step": [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100],
    "rate": [1.77581, 0.11994, 0.05415, 0.02866, 0.01507, 0.00716, 0.00282, 0.00081, 0.00013, 0.0],
    "rmse": [0.95136, 12.02277, 18.47482, 24.43656, 30.80948]
    + [38.03236, 46.12765, 54.18826, 60.97170, 67.60125],
}


def evaluated(run: Run, step: int) -> epath.Path | None:
    """The file with the bound's terms at 'step', of the held-out split if there is one."""
    folder, mark = run.directory / "eval", f"{step}-likelihood-"
    preferred = folder / f"{mark}{files.file_name_part(run.data.held_out)}.json"
    there = [preferred, *sorted(folder.glob(f"{mark}*.json"))]
    return next((path for path in there if "terms" in read(path)), None)


def read(path: epath.Path) -> dict[str, Any]:
    """{} if the file is missing or damaged: an evaluation mends both."""
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        return {}


def missing(run: Run, step: int) -> str:
    """What to type for the numbers that are not there."""
    asked = (run.eval.images and run.data.held_out) or run.eval.train_images
    field = "images" if run.data.held_out else "train_images"
    how = "" if asked else f" --config.eval.{field}=N"
    return (
        f"no rate_distortion: {run.directory / 'eval'} has no terms of the bound at step {step};"
        f" make them with --workdir={run.directory} --mode=evaluate{how}"
    )


def curve(terms: dict[str, list], prior: float, T: int) -> dict[str, list[float]]:
    """Rate (bits/dim) and distortion of x_0-hat(x_t) once x_T, ..., x_t are sent. Sec. 4.3.

    A stratum of several steps stands for them at its middle, where half of the others are sent.
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


def rate_distortion(trained: Chains) -> Figure | None:
    """Distortion and rate over reverse time, and against each other; None without an evaluation."""
    run = trained.run
    path = evaluated(run, trained.step)
    if path is None:
        return None
    record = read(path)
    ours = curve(record["terms"], record["prior"], run.model.sched.T)
    beside = run.data.name == "cifar10" and run.model.sched.T == 1000
    axes = {
        "reverse_step": "reverse process steps ($T - t + 1$)",
        "rmse": "distortion (RMSE, 0–255)",
        "rate": "rate (bits/dim)",
    }

    def plot(x: str, y: str) -> Plot:
        lines = [Line(ours[x], ours[y], "this run" if beside else "")]
        if beside:
            lines.append(Line(TABLE_4[x], TABLE_4[y], "Ho et al., Table 4", marker="o"))
        return Plot(axes[x], axes[y], lines)

    pairs = ("reverse_step", "rmse"), ("reverse_step", "rate"), ("rate", "rmse")
    kept = ("images", "split", "steps", "bits_per_dim", "prior")
    facts = {
        "evaluation": path.name,
        **{name: record[name] for name in kept if name in record},
        "distortion_bits_per_dim": record["terms"]["bits_per_dim"][0],
        "rate_bits_per_dim": record["prior"] + sum(record["terms"]["bits_per_dim"][1:]),
        **ours,
        "paper_table_4_cifar10": TABLE_4 | {"drawn": beside},
    }
    return Figure({"": plotting.plots([plot(*pair) for pair in pairs])}, facts)
