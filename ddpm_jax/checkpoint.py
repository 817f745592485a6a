"""Checkpoints: Orbax, asynchronous, one folder a step. The only file that knows Orbax."""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

State = Any


def absolute(directory: epath.Path) -> epath.Path:
    """Orbax takes no relative path; a gs:// path is absolute, and resolve() would make it local."""
    return directory if "://" in str(directory) else directory.resolve()


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
        lowest = checkpoint_managers.BestN(
            get_metric_fn=lambda metrics: metrics[keep_best], reverse=True, n=1
        )
        policies.append(lowest)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(absolute(directory), options=options)


def reader(directory: epath.Path) -> ocp.CheckpointManager:
    """For programs that only read: it creates and deletes nothing."""
    options = ocp.CheckpointManagerOptions(read_only=True)
    return ocp.CheckpointManager(absolute(directory), options=options)


def save(
    manager: ocp.CheckpointManager, step: int, state: State, metrics: dict[str, float]
) -> None:
    """Copies the state off the device and returns; the writing goes on in the background."""
    if step not in manager.all_steps():
        manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)


def restore(manager: ocp.CheckpointManager, step: int, like: State) -> State:
    """The state saved at 'step', with the structure, dtypes and shardings of 'like'."""
    return manager.restore(step, args=ocp.args.StandardRestore(like))


def abstract(state: State, sharding: jax.sharding.Sharding) -> State:
    """Shapes and dtypes, each to be placed by 'sharding': what 'restore' needs."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state
    )


def any_in(directory: epath.Path) -> bool:
    """Whether a finished checkpoint is there, without opening it; one being written has a suffix."""
    return directory.exists() and any(path.name.isdigit() for path in directory.iterdir())
