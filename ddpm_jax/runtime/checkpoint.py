"""Checkpoints, written asynchronously by Orbax, one folder per step. Only this file imports Orbax.

Orbax does not detect a flipped bit. Each checkpoint therefore has a record with the digest of every
array, and is not used if it differs from that.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from ddpm_jax.runtime import digest, paths

State = Any
STATE, RECORD = "state", "record"  # the items of a checkpoint; the second has the digests
# Errors of the storage, not of the checkpoint: it is left as it is, and the program ends.
NOT_DAMAGE = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "PERMISSION_DENIED")
NOT_DAMAGE += ("UNAUTHENTICATED", "ABORTED", "Too many open files", "Stale file handle")


class Damaged(RuntimeError):
    """A checkpoint differs from what was saved, or cannot be read."""


class KeepLowest(NamedTuple):
    """A preservation policy for Orbax that keeps the checkpoint with the lowest value of a metric.

    Orbax's own policy fails if a metrics file is damaged. This one reads metrics from the record.
    """

    directory: epath.Path
    name: str

    def should_preserve(self, checkpoints, **_) -> list[bool]:
        values = [self.value(info) for info in checkpoints]
        return [value == min(values) < math.inf for value in values]

    def value(self, info) -> float:
        """Returns the metric from this process's memory or else the record; infinity without either."""
        in_memory = (info.metrics or {}).get(self.name)
        return self.recorded(info.step) if in_memory is None else float(in_memory)

    def recorded(self, step: int) -> float:
        """Returns the metric from a checkpoint's record; infinity without one."""
        try:
            path = self.directory / str(step) / RECORD / "metadata"
            return float(json.loads(path.read_text())["metrics"][self.name])
        except (OSError, ValueError, KeyError, TypeError):
            return math.inf


def manager(
    directory: epath.Path, keep: int, keep_every: int, keep_best: str
) -> ocp.CheckpointManager:
    """Returns a manager that saves checkpoints and deletes old ones.

    It keeps the newest 'keep', those at multiples of 'keep_every', and the one with the lowest value
    of the metric 'keep_best' when it was saved. 0 and "" turn the last two off.
    """
    policies: list[checkpoint_managers.PreservationPolicy] = [checkpoint_managers.LatestN(keep)]
    if keep_every:
        policies.append(checkpoint_managers.EveryNSteps(keep_every))
    if keep_best:
        policies.append(KeepLowest(directory, keep_best))
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(paths.absolute(directory), options=options)


def reader(directory: epath.Path) -> ocp.CheckpointManager:
    """Returns a manager for programs that only read: it creates and deletes nothing."""
    options = ocp.CheckpointManagerOptions(read_only=True)
    return ocp.CheckpointManager(paths.absolute(directory), options=options)


def save(
    manager: ocp.CheckpointManager, step: int, state: State, metrics: dict[str, float]
) -> None:
    """Copies the state off the device and writes it in the background; does nothing if 'step' is saved.

    Raises Damaged if the save before cannot be read.
    """
    finish(manager)
    if step not in manager.all_steps():
        items = {
            STATE: ocp.args.StandardSave(state),
            RECORD: ocp.args.JsonSave({"arrays": digest.record(state), "metrics": metrics}),
        }
        manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)


def finish(manager: ocp.CheckpointManager) -> None:
    """Waits for the save in the background. Raises Damaged if the newest checkpoint cannot be read.

    Orbax does not report every save that fails: in one, its merge finds no files and makes none.
    """
    manager.wait_until_finished()
    step = manager.latest_step()
    if step is None:
        return
    try:
        manager.item_metadata(step)[STATE]
    except (ValueError, OSError, KeyError) as error:
        folder = manager.directory / str(step)
        raise Damaged(f"{folder} was saved and cannot be read: {shorten(error)}") from error


def restore(manager: ocp.CheckpointManager, step: int, like: State) -> State:
    """Returns the state saved at 'step', with the structure, dtypes and shardings of 'like'.

    Raises Damaged, with the place of the damage, unless it is bit for bit what was saved.
    """
    folder = manager.directory / str(step)
    try:
        saved = restore_item(manager, step, RECORD, ocp.args.JsonRestore())["arrays"]
        difference = digest.difference(saved, digest.kinds(like))
        if difference:
            state = None
        else:
            state = restore_item(manager, step, STATE, ocp.args.StandardRestore(like))
            difference = digest.difference(saved, digest.record(state))
    except (MemoryError, PermissionError, ConnectionError, TimeoutError):
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds, even plain Exception
        if any(code in str(error)[:1000] for code in NOT_DAMAGE):
            raise
        raise Damaged(f"{culprit(folder, error)} cannot be read: {shorten(error)}") from error
    if difference:
        raise Damaged(f"{folder} is damaged: {difference}")
    return state


def restore_item(manager: ocp.CheckpointManager, step: int, name: str, args: Any) -> Any:
    return manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]


def culprit(folder: epath.Path, error: Exception) -> epath.Path:
    """Returns the file that an error names, else the first unreadable one, else the folder itself."""
    paths = re.findall(rf"{re.escape(str(folder))}/[\w./-]*\w", str(error))
    if paths:
        return epath.Path(max(paths, key=len))
    for path in (
        folder / RECORD / "metadata",
        *folder.glob(f"{STATE}/*METADATA"),
        *folder.glob(f"{STATE}/array_metadatas/*"),
    ):
        try:
            json.loads(path.read_text())
        except (ValueError, OSError):
            return path
    return folder


def shorten(error: Exception) -> str:
    """Returns the first 300 characters of an error; TensorStore's fill pages."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else words[:300] + " ..."


def restore_newest(
    directory: epath.Path, like: State, report: Callable[[str], object]
) -> tuple[int, State, set[int]] | None:
    """Returns the newest intact checkpoint's step and state, and the newer steps that are damaged.

    Returns None if there is no checkpoint. 'report' is called with a line about each damaged one.
    Raises Damaged if there are checkpoints, but none is intact.
    """
    if not exists(directory):
        return None
    damaged: dict[int, Damaged] = {}
    with reader(directory) as manager:
        # Listed again after each failure: a run that is still training adds and deletes checkpoints.
        while steps := set(manager.all_steps()) - damaged.keys():
            step = max(steps)
            try:
                state = restore(manager, step, like)
            except Damaged as error:
                damaged[step] = error
                report(f"{error}; trying the one before")
                manager.reload()
            else:
                return step, state, {bad for bad in damaged if bad > step}
    # Only an unfinished first checkpoint is there: a bucket has no rename, so it has its final name already.
    if not damaged:
        return None
    latest = damaged[max(damaged)]
    raise Damaged(f"no checkpoint is left to resume from, and nothing was changed; {latest}")


def restore_step(directory: epath.Path, step: int, like: State) -> State:
    """Returns the state saved at a step. Raises Damaged unless it is bit for bit what was saved."""
    with reader(directory) as manager:
        return restore(manager, step, like)


def lowest(directory: epath.Path, name: str) -> int | None:
    """Returns the step of the checkpoint with the lowest value of a metric; None if none has a value."""
    policy = KeepLowest(directory, name)
    values = {step: policy.recorded(step) for step in list_steps(directory)}
    finite = [step for step in values if values[step] < math.inf]
    return min(finite, key=lambda step: values[step]) if finite else None


def set_aside(directory: epath.Path, steps: Iterable[int]) -> list[epath.Path]:
    """Renames damaged checkpoints, so that their steps can be saved again; returns their new paths."""
    moved = []
    for step in steps:
        names = (f"{step}.damaged" + (f"-{n}" if n else "") for n in range(1000))
        target = next(directory / name for name in names if not (directory / name).exists())
        moved.append((directory / str(step)).rename(target))
    return moved


def abstract(state: State, shardings: State) -> State:
    """Returns shapes, dtypes and shardings of a state, as 'restore' needs them."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        shardings,
    )


def exists(directory: epath.Path) -> bool:
    """Returns whether there is a checkpoint; on a bucket it may be unfinished, elsewhere it is finished."""
    return bool(list_steps(directory))


def list_steps(directory: epath.Path) -> list[int]:
    """Returns the steps of the checkpoints, intact or damaged, or unfinished on a bucket, oldest first."""
    if not directory.exists():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())
