"""--mode=evaluate --follow: each checkpoint of a run in training, as it comes, and the best one kept.

The paper reports the lowest FID over training: whoever follows has the whole curve, and the weights of
its best point as a run of their own, in best/.
"""

import json
import os
import shutil
import time
from typing import Any

import numpy as np
from etils import epath

from ddpm_jax.evaluation import evaluate
from ddpm_jax.run import record as records
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint, console, files, lock, plotting, signals

POLL = 10.0  # seconds between two looks
HIGHER = ("is_", "precision_", "recall_")  # scores that are better the higher they are
# FID against the training set, 50,000 samples, of a faithful CIFAR-10 run (tqch/ddpm-torch's README).
FAITHFUL = {46_800: 9.162, 93_600: 5.778, 187_200: 4.083, 421_200: 3.31, 795_600: 3.188}


def follow(run: Run) -> None:
    """Evaluates every checkpoint that has not been, until training's last step; writes eval/history.json.

    Raises Stopped if asked to, ValueError if eval.best names no number; called again it goes on.
    """
    while True:
        for step in checkpoint.list_steps(run.checkpoints):
            if step not in history(run):
                look(run, step)
        if run.train.steps in history(run):
            return
        waited = time.monotonic() + POLL
        while time.monotonic() < waited:
            signals.check("while it waited for the next checkpoint")
            time.sleep(0.2)


def look(run: Run, step: int) -> None:
    """Evaluates one checkpoint, on a copy: training deletes its older ones."""
    mine = run.directory / "following" / f"{step}"
    if not copied(run.checkpoints / f"{step}", mine / "checkpoints" / f"{step}"):
        return
    console.say(f"checkpoint {step}")
    try:
        evaluate.evaluate(run._replace(checkpoints=mine / "checkpoints"))
    except checkpoint.Damaged:
        if (run.checkpoints / f"{step}").exists():
            raise
        console.say(f"checkpoint {step} was being deleted while it was copied, and is left out")
        mine.rmtree()
        return
    except lock.InUse:
        if step != run.train.steps:
            raise  # another follower is at work
        return  # training measures its last step itself; it is looked at again
    rows = history(run) | {step: numbers(run, step)}
    name = criterion(run.eval.best, rows[step])
    files.write_json(run.directory / "eval" / "history.json", packed(run, rows))
    draw(run, rows, name)
    best = (max if name.startswith(HIGHER) else min)(rows, key=lambda row: rows[row][name])
    if best == step:
        keep(run, mine, step, {"step": step, name: rows[step][name]})
    mine.rmtree()
    console.say(f"best so far  step {best}, {name} {rows[best][name]:.4g}")
    on_track(run, step, rows[step])


def copied(source: epath.Path, target: epath.Path) -> bool:
    """Whether it could be: a checkpoint may be deleted while it is copied. On a disk it takes no room."""
    temporary = target.with_name(f"{target.name}.tmp")
    for left in (temporary, target):
        if left.exists():
            left.rmtree()
    try:
        if "://" in str(source):
            for path in source.rglob("*"):
                if not path.is_dir():
                    path.copy(temporary / path.relative_to(source))
        else:
            shutil.copytree(source, temporary, copy_function=linked)
    except (OSError, shutil.Error) as error:
        if source.exists():
            raise
        console.say(f"{source} was deleted before it could be evaluated: {type(error).__name__}")
        return False
    temporary.rename(target)
    return True


def linked(source: str, target: str) -> None:
    """Orbax writes no file twice, so another name for it is as good as a copy."""
    try:
        os.link(source, target)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        shutil.copy2(source, target)


def history(run: Run) -> dict[int, dict[str, float]]:
    """What was found of each step, by the same settings."""
    path = run.directory / "eval" / "history.json"
    if not path.exists():
        return {}
    record = json.loads(path.read_text())
    if records.add_later_fields(record["asked"]) != asked(run):
        return {}
    return {int(step): row for step, row in record["rows"].items()}


def asked(run: Run) -> dict[str, Any]:
    """What decides the numbers, as JSON has it."""
    sections = {name: run.config[name] for name in ("eval", "sample")}
    return json.loads(json.dumps(sections))


def packed(run: Run, rows: dict[int, dict[str, float]]) -> dict[str, Any]:
    return {"asked": asked(run), "rows": {f"{step}": rows[step] for step in sorted(rows)}}


def numbers(run: Run, step: int) -> dict[str, float]:
    """All that the evaluation has written of a step, by name."""
    found = {}
    for path in sorted((run.directory / "eval").glob(f"{step}-*.json")):
        record = json.loads(path.read_text())
        if "bits_per_dim" in record:
            found[f"bits_per_dim_{files.file_name_part(record['split'])}"] = record["bits_per_dim"]
        found |= record.get("scores", {})
    return found


def criterion(best: str, row: dict[str, float]) -> str:
    """The number that decides which step is best: that of eval.best, or a distance, or the bound.

    Raises ValueError if there is none of that name.
    """
    wanted = [best] if best else ["fid_", "frechet_", "bits_per_dim_"]
    for beginning in wanted:
        for name in row:
            if name.startswith(beginning):
                return name
    raise ValueError(f"eval.best is {best!r}; {files.suggest(best, row)}")


def keep(run: Run, mine: epath.Path, step: int, record: dict[str, Any]) -> None:
    """The best checkpoint in best/, which is a workdir to sample from."""
    best = run.directory / "best"
    files.write_json(best / "best.json", record)
    files.write(best / "config.json", (run.directory / "config.json").read_text())
    (best / "checkpoints").mkdir(parents=True, exist_ok=True)
    before = checkpoint.list_steps(best / "checkpoints")
    if step not in before:
        (mine / "checkpoints" / f"{step}").rename(best / "checkpoints" / f"{step}")
    for other in set(before) - {step}:
        (best / "checkpoints" / f"{other}").rmtree()


def draw(run: Run, rows: dict[int, dict[str, float]], name: str) -> None:
    """figures/history: the number that decides, and the bound, against the step."""
    steps = sorted(rows)
    bound = [other for other in rows[steps[-1]] if other.startswith("bits_per_dim_")]
    panels = []
    for each in dict.fromkeys([name, *bound]):
        lines = [plotting.Line(steps, [rows[step].get(each) for step in steps])]
        if comparable(run, each):
            known = plotting.Line(list(FAITHFUL), list(FAITHFUL.values()), "a faithful run", "o")
            lines = [lines[0]._replace(label="this run"), known]
        panels.append(plotting.Plot("training step", each.replace("_", " "), lines))
    plotting.save(run.directory / "figures" / "history", plotting.plots(panels))


def comparable(run: Run, name: str) -> bool:
    return name == "fid_50k_train" and run.data.name == "cifar10"


def on_track(run: Run, step: int, row: dict[str, float]) -> None:
    """Answers whether a run of the paper's CIFAR-10 config is where a faithful one was."""
    if "fid_50k_train" in row and comparable(run, "fid_50k_train"):
        ours = row["fid_50k_train"]
        console.say(f"  FID {ours:.3g}; a faithful run has {faithful(step):.3g} about here")


def faithful(step: int) -> float:
    """That run's FID, read off between its points on logarithmic scales."""
    steps, values = np.log(list(FAITHFUL)), np.log(list(FAITHFUL.values()))
    return float(np.exp(np.interp(np.log(step), steps, values)))
