"""--mode=evaluate --follow: evaluates each checkpoint as training writes it, and keeps the best.

The paper reports the lowest FID over training: --follow yields the whole curve, and the weights at its
best point as a run of their own, in best/.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

from etils import epath

from ddpm_jax.evaluation import bound, evaluate, history_figure, metric_table, quality
from ddpm_jax.metrics import frechet
from ddpm_jax.run import record as records
from ddpm_jax.run import state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint, console, files, lock, signals

POLL = 10.0  # seconds between checks for a new checkpoint
BOUND = "bits_per_dim"

Row = dict[str, float]


def follow(run: Run, after_step: Callable[[], None] = lambda: None) -> None:
    """Evaluates every new checkpoint up to training's last step; writes eval/history.json.

    Calls 'after_step' after each. A later call resumes with the checkpoints that are not in the history. Raises Stopped on a stop
    signal, ValueError if eval.best matches no number.
    """
    while True:
        for step in checkpoint.list_steps(run.checkpoints):
            if step not in history(run):
                evaluate_step(run, step)
                after_step()
        if run.train.steps in history(run):
            return
        deadline = time.monotonic() + POLL
        while time.monotonic() < deadline:
            signals.check("while waiting for the next checkpoint")
            time.sleep(0.2)


def evaluate_step(run: Run, step: int) -> None:
    """Evaluates a copy of one checkpoint, since training deletes old ones, and updates the history."""
    folder = run.directory / "following" / f"{run.prefix}{step}"
    if not copy(run.checkpoints / f"{step}", folder / "checkpoints" / f"{step}"):
        return
    console.say(f"checkpoint {step}")
    try:
        evaluate.evaluate(run._replace(checkpoints=folder / "checkpoints"))
    except checkpoint.Damaged:
        if remains(run.checkpoints / f"{step}"):
            raise
        console.say(f"checkpoint {step} was deleted while it was being copied, and is skipped")
        folder.rmtree()
        return
    except lock.InUse:
        if step != run.train.steps:
            raise  # another follower is running
        return  # training itself measures its last step; the next poll tries again
    rows = history(run) | {step: read_numbers(run, step)}
    name = criterion(run.eval.best, rows[step])
    record = {"asked": settings(run), "rows": {f"{each}": rows[each] for each in sorted(rows)}}
    files.write_json(run.directory / "eval" / f"{run.prefix}history.json", record)
    is_higher_better = metric_table.higher_is_better(name, metric_table.metrics(run))
    best = (max if is_higher_better else min)(rows, key=lambda row: rows[row][name])
    history_figure.draw(run, rows, name, best)
    if best == step:
        keep(run, folder, step, {"step": step, name: rows[step][name]} | weights(run))
    folder.rmtree()
    console.say(f"best so far  step {best}, {name} {rows[best][name]:.4g}")
    print_comparison(run, step, rows[step])


def remains(folder: epath.Path) -> bool:
    """Returns whether a folder still exists after the seconds that its deletion, if it is under way, may take."""
    for _ in range(50):
        if not folder.exists():
            return False
        time.sleep(0.1)
    return True


def copy(source: epath.Path, target: epath.Path) -> bool:
    """Copies a checkpoint, by hard links where possible; False if it was deleted meanwhile."""
    temporary = target.with_name(f"{target.name}.tmp")
    for leftover in (temporary, target):
        if leftover.exists():
            leftover.rmtree()
    try:
        if "://" in str(source):
            for path in source.rglob("*"):
                if not path.is_dir():
                    path.copy(temporary / path.relative_to(source))
        else:
            shutil.copytree(source, temporary, copy_function=link)
    except (OSError, shutil.Error) as error:
        if source.exists():
            raise
        console.say(f"{source} was deleted before it could be evaluated: {type(error).__name__}")
        return False
    temporary.rename(target)
    return True


def link(source: str, target: str) -> None:
    """Hard-links a file, or copies it: Orbax never rewrites a file, so a link is as good as a copy."""
    try:
        os.link(source, target)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        shutil.copy2(source, target)


def history(run: Run) -> dict[int, Row]:
    """Reads the numbers of all steps evaluated with the present settings."""
    path = run.directory / "eval" / f"{run.prefix}history.json"
    if not path.exists():
        return {}
    record = json.loads(path.read_text())
    if records.add_missing_fields(record["asked"]) != settings(run):
        return {}
    return {int(step): row for step, row in record["rows"].items()}


def settings(run: Run) -> dict[str, Any]:
    """The config sections and the weights that the numbers depend on, in JSON types."""
    sections = {name: run.config[name] for name in ("eval", "sample")}
    return json.loads(json.dumps(sections | weights(run)))


def weights(run: Run) -> dict[str, str]:
    """Names the weights in a record if they are not the EMA, as older records do not name them."""
    return {} if run.weights == "ema" else {"weights": run.weights}


def read_numbers(run: Run, step: int) -> Row:
    """Returns a step's bits/dim on each evaluated split and its sample-quality scores, by name."""
    numbers = {}
    for name, split in bounds(run).items():
        path = bound.record_path(run, step, split)
        if path.exists():
            numbers[name] = json.loads(path.read_text())[BOUND]
    return numbers | quality.find(run, step)


def bounds(run: Run) -> dict[str, str]:
    """Returns the splits whose bound is evaluated, by the names of their bounds."""
    evaluated = (run.data.held_out, run.eval.images), (run.data.split, run.eval.train_images)
    return {
        f"{BOUND}_{files.file_name_part(split)}": split
        for split, images in evaluated
        if images and split
    }


def check(run: Run) -> None:
    """Raises ValueError if eval.best can be the name of no number of this evaluation."""
    if run.eval.best:
        criterion(run.eval.best, dict.fromkeys([*bounds(run), *quality.possible_names(run)], 0.0))


def criterion(best: str, row: Row) -> str:
    """Returns the name of the number that decides the best step: the first that starts with 'best'.

    If 'best' is empty, it is a Frechet distance if there is one, otherwise the bound. Raises ValueError
    if no name matches.
    """
    distance = frechet.FRECHET
    starts = [best] if best else [f"{distance.inception_name}_", f"{distance.name}_", f"{BOUND}_"]
    for start in starts:
        for name in row:
            if name.startswith(start):
                return name
    raise ValueError(f"eval.best is {best!r}; {files.suggest(best, row)}")


def keep(run: Run, folder: epath.Path, step: int, record: dict[str, Any]) -> None:
    """Moves the best checkpoint to best/, a workdir to sample from, and deletes the previous one."""
    best = state.best_folder(run)
    files.write_json(best / "best.json", record)
    files.write(best / "config.json", (run.directory / "config.json").read_text())
    (best / "checkpoints").mkdir(parents=True, exist_ok=True)
    stored = checkpoint.list_steps(best / "checkpoints")
    if step not in stored:
        (folder / "checkpoints" / f"{step}").rename(best / "checkpoints" / f"{step}")
    for other in set(stored) - {step}:
        (best / "checkpoints" / f"{other}").rmtree()


def print_comparison(run: Run, step: int, row: Row) -> None:
    """Prints a CIFAR-10 run's FID beside that of a faithful run at the same step."""
    metric = history_figure.FAITHFUL_METRIC
    if metric in row and history_figure.is_comparable(run, metric):
        published = history_figure.faithful_fid(step)
        console.say(
            f"  FID {row[metric]:.3g}; tqch/ddpm-torch has about {published:.3g} at this step"
        )
