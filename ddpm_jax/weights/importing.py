"""--mode=import: foreign weights to a run."""

import math
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.config import build, data
from ddpm_jax.run import record, state
from ddpm_jax.run.run import Run
from ddpm_jax.run.state import TrainState
from ddpm_jax.runtime import checkpoint, console
from ddpm_jax.weights import formats
from ddpm_jax.weights.source import Source

EMA = "/ExponentialMovingAverage"
MOMENTS = {"mu": "/Adam", "nu": "/Adam_1"}  # TensorFlow's names of Adam's
COUNTERS = ("global_step", "beta1_power", "beta2_power")


class Weights(NamedTuple):
    """What a checkpoint holds of a train state, as ours."""

    params: Any
    ema: Any | None
    moments: dict[str, Any]  # Adam's, by name; none, or both


def build_for(config: ConfigDict, directory: epath.Path, source: Source) -> Run:
    """The run that a foreign checkpoint becomes; its data set need not be there.

    Raises ValueError for weights and data that do not go together.
    """
    shape, levels = data.of(config.data.to_dict()).declared()
    if shape[0] == source.shape[0]:
        shape = (*source.shape[:2], shape[2])  # a folder's are declared square
    if shape[2] != source.shape[2]:
        raise ValueError(
            f"the weights are of {source.shape[2]} channels, images of {config.data.name} have {shape[2]}"
        )
    return build.run(config, directory, of_images=(shape, levels))


def check_import(run: Run, source: Source) -> None:
    """Raises ValueError for a folder that holds a run, and for tensors that are not all of the network's."""
    check_alone()
    if checkpoint.any_in(run.checkpoints):
        raise ValueError(f"{run.directory} holds a run; import into another --workdir")
    weights_of(source, state.abstract(run).params)


def check_alone() -> None:
    if jax.process_count() > 1:
        raise ValueError(
            "import and export are the work of one process; start one, with --num_processes=1 and,"
            " on a host of a TPU pod, JAX_PLATFORMS=cpu"
        )


def weights_of(source: Source, like: Any) -> Weights:
    """Raises ValueError, naming the tensor, unless each is there, of its shape, and none is left."""
    tensors, format = source.tensors, source.format
    used = set(COUNTERS if format == "tf1" else ())

    def taken(suffix: str = "") -> Any:
        used.update(formats.names(format, like, suffix).values())
        return formats.taken(format, tensors, like, suffix)

    def has(suffix: str) -> bool:
        return format == "tf1" and any(name.endswith(suffix) for name in tensors)

    try:
        params, ema = taken(), taken(EMA) if has(EMA) else None
        adam = any(map(has, MOMENTS.values()))
        moments = {name: taken(suffix) for name, suffix in MOMENTS.items()} if adam else {}
        formats.check_none_left(tensors, used)
    except ValueError as error:
        raise ValueError(f"--source {source.path} does not fit the config: {error}") from error
    return Weights(params, ema, moments)


def import_weights(run: Run, source: Source) -> None:
    """Writes the run: its config, and a checkpoint that all other programs take as their own."""
    like = state.abstract(run)
    found = weights_of(source, like.params)
    made = state_of(like, found, step_of(source))
    record.store(run.directory, run.config, run.model.shape, run.model.levels)
    keep = (run.train.keep, run.train.keep_every, run.train.keep_best)
    with closing(checkpoint.manager(run.checkpoints, *keep)) as manager:
        placed = jax.device_put(made, state.shardings(run))
        checkpoint.save(manager, int(made.step), placed, {"loss": math.inf})
        manager.wait_until_finished()
    tell(run, source, found)


def state_of(like: TrainState, found: Weights, step: int) -> TrainState:
    """On the host. One set of weights is both the parameters and their EMA; without Adam's moments the
    optimiser begins anew, its warm-up too.
    """
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    ema = found.params if found.ema is None else found.ema
    opt_state = optax.tree.set(blank.opt_state, ema=ema, **found.moments)
    if found.moments:
        opt_state = optax.tree.set(opt_state, count=np.int32(step))
    return blank._replace(step=np.int32(step), params=found.params, opt_state=opt_state)


def step_of(source: Source) -> int:
    """As the checkpoint counts; 0 where it does not say."""
    return int(source.tensors.get("global_step", source.step or 0))


def tell(run: Run, source: Source, found: Weights) -> None:
    count = sum(leaf.size for leaf in jax.tree.leaves(found.params))
    step = step_of(source)
    console.say(f"source   {source.path}, {source.format}: {count:,} parameters, step {step}")
    if step >= run.train.steps:
        console.say(
            f"  train.steps is {run.train.steps}: to train on give more, --config.train.steps=N"
        )
    one = found.ema is None
    console.say(
        f"  {'one set of weights, the EMA too' if one else 'weights and their EMA'}, the optimiser's"
        f" state {'from there' if found.moments else 'new'}"
    )
    for note in source.notes:
        console.say(f"  {note}")
    console.say(
        f"data     {run.data.name}, to train on and compare with; --config=FILE for another"
    )
    console.say(
        f"run      {run.directory}; sample from it with --workdir={run.directory} --mode=sample"
    )
