"""--mode=import: makes a run from foreign weights."""

import math
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.config import build, data, provenance
from ddpm_jax.datasets import arrays
from ddpm_jax.datasets.own import Own
from ddpm_jax.datasets.source import Data, Folder
from ddpm_jax.run import record, state
from ddpm_jax.run.model import ImageKind
from ddpm_jax.run.run import Run
from ddpm_jax.run.state import TrainState
from ddpm_jax.runtime import checkpoint, console, paths
from ddpm_jax.weights import formats
from ddpm_jax.weights.source import Source

EMA = "/ExponentialMovingAverage"
MOMENTS = {"mu": "/Adam", "nu": "/Adam_1"}  # optax's names and TensorFlow's suffixes
COUNTERS: tuple[str, ...] = ("global_step", "beta1_power", "beta2_power")


class Weights(NamedTuple):
    """A checkpoint's weights as trees of our parameters."""

    params: Any
    ema: Any | None
    moments: dict[str, Any]  # Adam's, by optax's names; empty if the checkpoint has none


def build_run(
    config: ConfigDict, directory: epath.Path, source: Source, trust: bool = False
) -> Run:
    """Builds the run of a foreign checkpoint without opening its data set.

    Raises ValueError if the weights' images and the data set's differ in height, width or channels.
    """
    provenance.check(config.to_dict(), directory, trust)
    data_set = data.data_source(config.to_dict()["data"])
    shape, levels = image_kind(data_set)
    if shape != source.shape:
        theirs, ours = ("x".join(map(str, sizes)) for sizes in (source.shape, shape))
        raise ValueError(
            f"the weights are for images of {theirs} (height, width, channels), but those of"
            f" {data_set.name} are {ours}; name a data set of such images with --config=FILE"
        )
    return build.run(config, directory, image_kind=(shape, levels), trust=trust)


def image_kind(data_set: Data | Folder | Own) -> ImageKind:
    """Returns shape and grey levels of a data set's images without preparing it."""
    if isinstance(data_set, Folder):
        path = paths.user_path(data_set.path)
        if arrays.is_array(path):
            arrays.check_exists(path)
            height, width, channels = arrays.read_images(path)[0].shape[1:]
            return (height, width, channels), 256  # an array is not cropped to squares
    return data_set.declared()


def check_import(run: Run, source: Source) -> None:
    """Raises ValueError if the folder holds a run already, or the tensors do not fit the network."""
    check_one_process()
    check_no_run(run.directory)
    check_weights(source, state.abstract(run).params)


def check_no_run(directory: epath.Path) -> None:
    """Raises ValueError if a folder holds a run."""
    if checkpoint.exists(directory / "checkpoints"):
        raise ValueError(f"{directory} already holds a run; import into another --workdir")


def check_one_process() -> None:
    """Raises ValueError if there are several processes."""
    if jax.process_count() > 1:
        raise ValueError(
            f"import and export run in one process, not {jax.process_count()}; start one, with"
            " --num_processes=1 and, on a host of a TPU pod, JAX_PLATFORMS=cpu"
        )


def suffixes(source: Source) -> dict[str, str]:
    """Returns the suffixes of the tensors of each set of weights in a source, by our names for the sets."""

    def has(suffix: str) -> bool:
        return source.format == "tf1" and any(name.endswith(suffix) for name in source.tensors)

    ema = {"ema": EMA} if has(EMA) else {}
    moments = MOMENTS if any(map(has, MOMENTS.values())) else {}
    return {"params": "", **ema, **moments}


def check_weights(source: Source, like: Any) -> None:
    """Raises ValueError, naming the tensor, if one is missing, extra, misshapen or not finite."""
    tensors, format = source.tensors, source.format
    used = set(COUNTERS if format == "tf1" else ())
    try:
        for suffix in suffixes(source).values():
            formats.check_tensors(format, tensors, like, suffix)
            used.update(formats.tensor_names(format, like, suffix).values())
        formats.check_no_extra(tensors, used)
    except ValueError as error:
        raise ValueError(f"--source {source.path} does not fit the config: {error}") from error


def read_weights(source: Source, like: Any) -> Weights:
    """Converts a source's tensors, which check_weights has passed, to our parameters."""
    trees = {
        name: formats.to_params(source.format, source.tensors, like, suffix)
        for name, suffix in suffixes(source).items()
    }
    return Weights(params=trees.pop("params"), ema=trees.pop("ema", None), moments=trees)


def import_weights(run: Run, source: Source) -> None:
    """Writes the run's config.json and a checkpoint, which every other program can read."""
    like = state.abstract(run)
    weights = read_weights(source, like.params)
    train_state = make_state(like, weights, find_step(source))
    record.write(run.directory, run.config, run.model.shape, run.model.levels, run.labels)
    keep = (run.train.keep, run.train.keep_every, run.train.keep_best)
    with closing(checkpoint.manager(run.checkpoints, *keep)) as manager:
        placed = jax.device_put(train_state, state.shardings(run))
        checkpoint.save(manager, int(train_state.step), placed, {"loss": math.inf})
        checkpoint.finish(manager)
    report(run, source, weights)


def make_state(like: TrainState, weights: Weights, step: int) -> TrainState:
    """Returns a train state of numpy arrays.

    Without an EMA, the EMA is the parameters themselves. Without Adam's moments the optimiser starts
    from scratch, with its warm-up.
    """
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    ema = weights.params if weights.ema is None else weights.ema
    opt_state = optax.tree.set(blank.opt_state, ema=ema, **weights.moments)
    if weights.moments:
        opt_state = optax.tree.set(opt_state, count=np.int32(step))
    return blank._replace(step=np.int32(step), params=weights.params, opt_state=opt_state)


def find_step(source: Source) -> int:
    """Returns the step from the checkpoint's counter or name, else 0."""
    return int(source.tensors.get("global_step", source.step or 0))


def report(run: Run, source: Source, weights: Weights) -> None:
    """Prints what was imported, and how to use it."""
    count = sum(leaf.size for leaf in jax.tree.leaves(weights.params))
    step = find_step(source)
    console.say(f"source   {source.path}, {source.format}: {count:,} parameters, step {step}")
    if step >= run.train.steps:
        console.say(
            f"  train.steps is {run.train.steps}; to train further, raise --config.train.steps"
        )
    sets = "weights and their EMA" if weights.ema is not None else "one set of weights, used as EMA"
    moments = "from the checkpoint" if weights.moments else "new"
    console.say(f"  {sets}; the optimiser's state is {moments}")
    for note in source.notes:
        console.say(f"  {note}")
    console.say(f"data     {run.data.name}, for training and evaluation; --config=FILE changes it")
    console.say(f"run      {run.directory}; sample from it: ddpm sample {run.directory}")
