"""--mode=import and --mode=export: foreign weights to a run, and a run's to where others look for them."""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import safetensors.numpy
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax import (
    build,
    checkpoint,
    convert,
    data_settings,
    diffusers_json,
    generate,
    report,
    state,
    stopping,
    weights_source,
    workdir,
)
from ddpm_jax.build import Run
from ddpm_jax.state import TrainState
from ddpm_jax.weights_source import Source

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
    shape, levels = data_settings.of(config.data.to_dict()).declared()
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
        used.update(convert.names(format, like, suffix).values())
        return convert.taken(format, tensors, like, suffix)

    def has(suffix: str) -> bool:
        return format == "tf1" and any(name.endswith(suffix) for name in tensors)

    try:
        params, ema = taken(), taken(EMA) if has(EMA) else None
        adam = any(map(has, MOMENTS.values()))
        moments = {name: taken(suffix) for name, suffix in MOMENTS.items()} if adam else {}
        convert.check_none_left(tensors, used)
    except ValueError as error:
        raise ValueError(f"--source {source.path} does not fit the config: {error}") from error
    return Weights(params, ema, moments)


def import_weights(run: Run, source: Source) -> None:
    """Writes the run: its config, and a checkpoint that all other programs take as their own."""
    like = state.abstract(run)
    found = weights_of(source, like.params)
    made = state_of(like, found, step_of(source))
    workdir.store(run.directory, run.config, run.model.shape, run.model.levels)
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
    report.say(f"source   {source.path}, {source.format}: {count:,} parameters, step {step}")
    if step >= run.train.steps:
        report.say(
            f"  train.steps is {run.train.steps}: to train on give more, --config.train.steps=N"
        )
    one = found.ema is None
    report.say(
        f"  {'one set of weights, the EMA too' if one else 'weights and their EMA'}, the optimiser's"
        f" state {'from there' if found.moments else 'new'}"
    )
    for note in source.notes:
        report.say(f"  {note}")
    report.say(f"data     {run.data.name}, to train on and compare with; --config=FILE for another")
    report.say(
        f"run      {run.directory}; sample from it with --workdir={run.directory} --mode=sample"
    )


def check_export(run: Run, target: str | None, format: str, weights: str = "ema") -> None:
    """Raises ValueError for a target that is there, and for a run that the format cannot hold."""
    check_alone()
    if not target:
        raise ValueError("--mode=export needs --target=PATH, where to write")
    if format not in EXPORTS:
        raise ValueError(f"--format {format} cannot be exported; there is {', '.join(EXPORTS)}")
    if weights == "raw" and format != "diffusers":
        raise ValueError(f"--weights=raw goes with --format=diffusers; {format} is of EMA samples")
    path = checkpoint.absolute(epath.Path(target))
    if path.exists() and (format == "npz" or not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"--target {target} is there already; give another")
    workdir.check_writable(path.parent, "", flag="--target")
    if format != "diffusers":
        workdir.check_writable(run.directory, "samples")
    else:
        diffusers_json.check_groups(run.model)
        folder_json(run)


def export(run: Run, target: str, format: str, weights: str) -> None:
    """Writes what 'format' says to 'target'; of 'weights' "ema" or "raw"."""
    EXPORTS[format](run, checkpoint.absolute(epath.Path(target)), weights)
    report.say(f"exported {target}")


def folder_json(run: Run) -> dict[str, dict[str, Any]]:
    """The JSON files of a diffusers folder, by their paths in it."""
    return {
        "model_index.json": {
            "_class_name": "DDPMPipeline",
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        },
        "unet/config.json": diffusers_json.of_network(run.model),
        "scheduler/scheduler_config.json": diffusers_json.of_schedule(
            run.model, run.config["diffusion"]
        ),
    }


@contextmanager
def whole(target: epath.Path) -> Iterator[epath.Path]:
    """A hidden folder beside 'target', which takes its name once it is complete."""
    folder = target.with_name(f".{target.name}.tmp")
    if folder.exists():
        folder.rmtree()
    yield folder
    if target.exists():
        target.rmdir()  # it is empty
    folder.rename(target)


def to_diffusers(run: Run, target: epath.Path, weights: str) -> None:
    """A folder that DDPMPipeline.from_pretrained loads."""
    _, params = state.averaged(run) if weights == "ema" else state.raw(run)
    tensors = convert.given("diffusers", jax.device_get(params))
    content = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    with whole(target) as folder:
        workdir.write(folder / "unet" / weights_source.WEIGHTS[0], content)
        for name, value in folder_json(run).items():
            workdir.write_json(folder / name, value)


def samples(run: Run) -> np.ndarray:
    """sample.count images of the newest checkpoint, drawn now unless they are there."""
    step, params = state.averaged(run)
    found = generate.found(run, step, run.sample.count)
    return generate.images(run, step, params) if found is None else found


def to_png(run: Run, target: epath.Path, weights: str) -> None:
    """One file an image, numbered from 00000: what folders of pictures are compared by."""
    images = samples(run)
    with whole(target) as folder, report.progress("writing", len(images), unit="image") as bar:
        for number, image in enumerate(images):
            stopping.check(f"at file {number} of {len(images)}, whose images are kept")
            report.write_png(folder / f"{number:05d}.png", image, enlarge=False)
            bar.update()


def to_npz(run: Run, target: epath.Path, weights: str) -> None:
    """arr_0, uint8 [n, h, w, c]: the form of OpenAI's evaluator."""
    report.write_npz(target, samples(run))


EXPORTS = {"diffusers": to_diffusers, "png": to_png, "npz": to_npz}
