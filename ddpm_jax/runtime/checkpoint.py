"""Checkpoints: Orbax, asynchronous, one folder a step. The only file that knows Orbax.

Orbax hands over a flipped bit as it is, so a record of every array's digest lies beside the state,
and a checkpoint that differs from its record is not used.
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

from ddpm_jax.runtime import digest

State = Any
STATE, RECORD = "state", "record"  # the items of a checkpoint; the second has the digests
# Errors that say nothing about the checkpoint itself: it stays where it is, and the program ends.
NOT_DAMAGE = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "PERMISSION_DENIED")
NOT_DAMAGE += ("UNAUTHENTICATED", "ABORTED", "Too many open files", "Stale file handle")


class Damaged(RuntimeError):
    """A checkpoint is not what was saved."""


def absolute_path(directory: epath.Path) -> epath.Path:
    """Orbax takes no relative path; a gs:// path is absolute, and resolve() would make it local."""
    return directory if "://" in str(directory) else directory.resolve()


class KeepLowest(NamedTuple):
    """Orbax's preservation policy that keeps the checkpoint with the lowest value of a metric.

    Orbax's own reads metrics from files that stop it if they are damaged; ours are in the record.
    """

    directory: epath.Path
    name: str

    def should_preserve(self, checkpoints, **_) -> list[bool]:
        values = [self.value(info) for info in checkpoints]
        return [value == min(values) < math.inf for value in values]

    def value(self, info) -> float:
        """As saved by this process, or as recorded by one before; infinity without a record."""
        try:
            path = self.directory / str(info.step) / RECORD / "metadata"
            metrics = info.metrics or json.loads(path.read_text())["metrics"]
            return float(metrics[self.name])
        except (OSError, ValueError, KeyError, TypeError):
            return math.inf


def manager(
    directory: epath.Path, keep: int, keep_every: int, keep_best: str
) -> ocp.CheckpointManager:
    """Keeps the newest 'keep', every 'keep_every'-th step, and the one with the lowest 'keep_best'.

    0 and "" switch the last two off. A metric is compared as it stood when the step was saved.
    """
    policies = [checkpoint_managers.LatestN(keep)]
    if keep_every:
        policies.append(checkpoint_managers.EveryNSteps(keep_every))
    if keep_best:
        policies.append(KeepLowest(directory, keep_best))
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(absolute_path(directory), options=options)


def reader(directory: epath.Path) -> ocp.CheckpointManager:
    """For programs that only read: it creates and deletes nothing."""
    options = ocp.CheckpointManagerOptions(read_only=True)
    return ocp.CheckpointManager(absolute_path(directory), options=options)


def save(
    manager: ocp.CheckpointManager, step: int, state: State, metrics: dict[str, float]
) -> None:
    """Copies the state off the device and returns; the writing goes on in the background."""
    if step not in manager.all_steps():
        items = {
            STATE: ocp.args.StandardSave(state),
            RECORD: ocp.args.JsonSave({"arrays": digest.record(state), "metrics": metrics}),
        }
        manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)


def restore(manager: ocp.CheckpointManager, step: int, like: State) -> State:
    """The state saved at 'step', with the structure, dtypes and shardings of 'like'.

    Raises Damaged, saying where, unless it is bit for bit what was saved.
    """
    folder = manager.directory / str(step)
    try:
        saved = restore_item(manager, step, RECORD, ocp.args.JsonRestore())["arrays"]
        wrong = digest.difference(saved, digest.kinds(like))
        if not wrong:
            state = restore_item(manager, step, STATE, ocp.args.StandardRestore(like))
            wrong = digest.difference(saved, digest.record(state))
    except (MemoryError, PermissionError, ConnectionError, TimeoutError):
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds, plain Exception among them
        if any(code in str(error)[:1000] for code in NOT_DAMAGE):
            raise
        raise Damaged(f"{culprit(folder, error)} cannot be read: {shorten(error)}") from error
    if wrong:
        raise Damaged(f"{folder} is damaged: {wrong}")
    return state


def restore_item(manager: ocp.CheckpointManager, step: int, name: str, args: Any) -> Any:
    return manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]


def culprit(folder: epath.Path, error: Exception) -> epath.Path:
    """The file of a checkpoint that an error is about, as near as can be told, or the folder."""
    named = re.findall(rf"{re.escape(str(folder))}/[\w./-]*\w", str(error))
    if named:
        return epath.Path(max(named, key=len))
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
    """The head of an error; TensorStore's go on for pages."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else words[:300] + " ..."


def restore_newest(
    directory: epath.Path, like: State, tell: Callable[[str], None]
) -> tuple[int, State, set[int]] | None:
    """The newest whole checkpoint: its step, its state, and the newer steps that are damaged.

    None if there is no checkpoint at all. 'tell' hears of the damaged ones. Raises Damaged if no
    whole one is left.
    """
    if not exists(directory):
        return None
    damaged: dict[int, Damaged] = {}
    with reader(directory) as manager:
        # Listed again after a failure: a run that is still training deletes and adds some meanwhile.
        while steps := set(manager.all_steps()) - damaged.keys():
            step = max(steps)
            try:
                state = restore(manager, step, like)
            except Damaged as error:
                damaged[step] = error
                tell(f"{error}; trying the one before")
                manager.reload()
            else:
                return step, state, {bad for bad in damaged if bad > step}
    if not damaged:  # the first one is still being written, into its own folder as buckets have it
        return None
    latest = damaged[max(damaged)]
    raise Damaged(f"no checkpoint is left to go on from, and nothing was changed; {latest}")


def set_aside(directory: epath.Path, steps: Iterable[int]) -> list[epath.Path]:
    """Renames damaged checkpoints, so that their steps can be saved again; returns where they are."""
    moved = []
    for step in steps:
        names = (f"{step}.damaged" + (f"-{n}" if n else "") for n in range(1000))
        target = next(directory / name for name in names if not (directory / name).exists())
        moved.append((directory / str(step)).rename(target))
    return moved


def abstract(state: State, shardings: State) -> State:
    """Shapes and dtypes, and how each array is to be placed: what 'restore' needs."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        state,
        shardings,
    )


def exists(directory: epath.Path) -> bool:
    """Whether a finished checkpoint is there, without opening it; one being written has a suffix."""
    return bool(list_steps(directory))


def list_steps(directory: epath.Path) -> list[int]:
    """The steps of the finished checkpoints, whole or damaged, oldest first."""
    if not directory.exists():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())
