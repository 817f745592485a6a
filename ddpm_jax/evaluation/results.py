"""The numbers in a run's folder: training's curves, and what was measured at each step.

They are read from the files alone, so a figure or a report of them needs no checkpoint. Damaged files and rows
are left out.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from ddpm_jax.evaluation import metric_table
from ddpm_jax.runtime import metrics_log

WORDS = {  # what the names in files begin with
    "bits_per_dim": "bound in bits/dim",
    "accuracy": "accuracy at t = 1",
    "fid": "FID",
    "sfid": "sFID",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "is": "Inception Score",
    "frechet": "Fréchet distance",
    "sfrechet": "spatial Fréchet distance",
}
HOW = ("sampler", "samples", "samples_from", "space", "images", "steps", "weights", "seed", "split")


BOUND = "bits_per_dim"


class Curve(NamedTuple):
    """Values against the training step, with their errors where those are known."""

    steps: list[int]
    values: list[float]
    errors: list[float | None]


class Measurement(NamedTuple):
    """A number measured at a step: a bound with its standard error, a score with its deviation."""

    step: int
    name: str  # as in the run's files
    value: float
    error: float | None
    how: dict[str, Any]  # the facts of HOW that its file holds


def training_curves(directory: epath.Path) -> dict[str, Curve]:
    """Returns the columns of metrics.jsonl by name; of two rows of one step, as a crash leaves, the later."""
    path = directory / "metrics.jsonl"
    lines = path.read_bytes().decode(errors="replace").splitlines(True) if path.exists() else []
    rows = {row["step"]: row for row in map(parse_row, lines) if row}
    curves: dict[str, Curve] = {}
    for step in sorted(rows):
        for name, value in rows[step].items():
            if name != "step" and isinstance(value, int | float):
                curve = curves.setdefault(name, Curve([], [], []))
                curve.steps.append(step)
                curve.values.append(value)
                curve.errors.append(None)
    return curves


def parse_row(line: str) -> dict[str, Any]:
    """Returns a row of metrics.jsonl; {} for a damaged one."""
    return json.loads(line) if math.isfinite(metrics_log.parse_step(line)) else {}


def measurements(directory: epath.Path, prefix: str = "") -> list[Measurement]:
    """Returns all that eval/ holds, by step, and the newest of each step first.

    'prefix' is that of the weights (Run.prefix).
    """
    folder, found = directory / "eval", []
    for path in sorted(folder.glob("*.json")) if folder.exists() else ():
        step, _, kind = path.stem.partition("-")
        if step.isdigit() and kind.startswith(prefix):
            found += measurements_of(path, int(step), kind.removeprefix(prefix))
    return sorted(found, key=lambda each: each.step)


def measurements_of(path: epath.Path, step: int, kind: str) -> Iterator[Measurement]:
    """Yields the numbers of one file; none of a damaged one, and of other weights' files."""
    try:
        record = dict(json.loads(path.read_text()))
        if kind == "quality":
            for each in (record, *record.get("earlier", ())):
                yield from scores(step, each)
        elif kind.startswith("likelihood-"):
            name = f"bits_per_dim_{kind.removeprefix('likelihood-')}"
            error = record.get("standard_error")
            yield Measurement(step, name, float(record["bits_per_dim"]), error, how(record))
        elif kind.startswith("accuracy-"):
            value, error = float(record["accuracy"][0]), record["standard_error"][0]
            yield Measurement(step, kind.replace("-", "_", 1), value, error, how(record))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return


def scores(step: int, record: Mapping[str, Any]) -> Iterator[Measurement]:
    """Yields the scores of one measurement of sample quality."""
    for name, value in record["scores"].items():
        if not name.endswith("_std"):
            error = record["scores"].get(f"{name}_std")
            yield Measurement(step, name, float(value), error, how(record))


def how(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in HOW if name in record}


def measured_curves(found: Sequence[Measurement]) -> dict[str, Curve]:
    """Returns a curve of each number over the steps, measured as it was at the last step that has it."""
    curves = {}
    for name in dict.fromkeys(each.name for each in found):
        same = [each for each in found if each.name == name]
        last = next(each for each in same if each.step == same[-1].step)
        points = {each.step: each for each in reversed(same) if each.how == last.how}
        steps = sorted(points)
        values, errors = (
            [getattr(points[step], field) for step in steps] for field in ("value", "error")
        )
        curves[name] = Curve(steps, values, errors)
    return curves


def title(name: str) -> str:
    """Returns a number's name in files in words: "FID 50k train" for "fid_50k_train"."""
    floor = "floor_"  # the distance between real images, which no sampler need be below
    if name.startswith(floor):
        return f"floor: {title(name.removeprefix(floor))}"
    starts = [each for each in WORDS if name.startswith(f"{each}_")]
    start = max(starts, key=len, default="")
    rest = name.removeprefix(start).strip("_").replace("_", " ")
    return ", ".join(filter(None, [WORDS.get(start, ""), rest]))


def higher_is_better(name: str) -> bool:
    """Returns whether more of a number is better, by its name in files."""
    return name.startswith("accuracy_") or metric_table.higher_is_better(name)
