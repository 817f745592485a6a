"""A run whose weights matter, written without training: what stands between a formula and a file is tested on it.

A network's heads begin at 1e-10, and a few steps of training leave it mute: a program that used other weights, labels
or times would make nearly the same images. Here every weight is random and of full scale, and the average
of the weights is another draw. Every seed of the config differs from every other and from 0.
"""

import math
import shutil
import zlib
from contextlib import closing

import jax
import numpy as np
import optax
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.config import build, config_file
from ddpm_jax.run import record, state
from ddpm_jax.run.run import Run
from ddpm_jax.run.state import TrainState
from ddpm_jax.runtime import checkpoint, digest

STEP = 4  # of the checkpoint
RAW, EMA = 1, 2  # which draw the parameters and their average are
KINDS = "plain", "conditional", "classifier"


def config(tiny: ConfigDict, kind: str) -> ConfigDict:
    """A tiny config made loud: its images, its steps and its folder of data stay."""
    # With 12 channels, for a group norm of one channel removes whatever time and label add to it.
    tiny.model.update(channels=12, dropout=0.5)
    tiny.data.flip = True
    tiny.seed, tiny.sample.seed, tiny.eval.seed = 3, 5, 7
    if kind != "plain":
        tiny.model.classes = 10
    if kind == "conditional":
        tiny.train.label_dropout = 0.5
    if kind == "classifier":
        tiny.diffusion.loss = "classification"
        tiny.train.label_dropout = 0.0
    return tiny


def weights(like, draw: int):
    """Random arrays of the shapes of 'like': kernels by their fan-in, scales about one."""

    def one(path: str, leaf) -> np.ndarray:
        rng = np.random.default_rng([draw, zlib.crc32(path.encode())])
        values = rng.standard_normal(leaf.shape)
        if path.endswith("kernel"):
            # A step of time moves few of the embedding's sines: what follows them is louder.
            values *= (4.0 if "temb" in path else 1.0) / math.sqrt(math.prod(leaf.shape[:-1]))
        elif path.endswith("embedding"):
            values *= 3.0
        else:
            values = 0.5 * values + path.endswith("scale")
        return values.astype(leaf.dtype)

    named = digest.leaves_by_path(like)
    leaves = [one(path, leaf) for path, leaf in named.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def train_state(run: Run, raw: int = RAW, ema: int = EMA, step: int = STEP) -> TrainState:
    """What a checkpoint holds after 'step' steps; NaN for weights of draw 0."""
    like = state.abstract(run)

    def drawn(draw: int):
        made = weights(like.params, draw)
        return made if draw else jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), made)

    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    opt_state = optax.tree.set(blank.opt_state, ema=drawn(ema), count=np.int32(step))
    made = blank._replace(step=np.int32(step), params=drawn(raw), opt_state=opt_state)
    return jax.device_put(made, state.shardings(run))


def write(run: Run, *states: TrainState) -> None:
    """Leaves the run in its folder as training would: its config, and a checkpoint of each state."""
    record.write(run.directory, run.config, run.model.shape, run.model.levels, run.labels)
    with closing(checkpoint.manager(run.checkpoints, max(1, len(states)), 0, "")) as manager:
        for each in states or (train_state(run),):
            checkpoint.save(manager, int(each.step), each, {"loss": math.inf})
        manager.wait_until_finished()


def run_of(config: ConfigDict, directory, **fields) -> Run:
    """The run of a config with some of its fields changed."""
    config.update_from_flattened_dict(fields)
    return build.run(config, epath.Path(directory))


def photos(folder) -> Run:
    """A loud run of color images, whose network diffusers has too, and pictures for it, not prepared."""
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    np.save(folder / "pictures.npy", pictures)
    config = config_file.load("image_folder")
    config.data.update(path=f"{folder}/pictures.npy", data_dir=f"{folder}/tfds", image_size=16)
    config.model.update(channels=32, multipliers=(1,), blocks=1)
    config.model.attention = (16,)
    config.diffusion.schedule.T = 4
    for settings in (config.train.grid, config.sample, config.eval):
        settings.steps = 4
    config.sample.update(batch_size=2, count=2)
    config.parallel.devices = 1
    run = build.run(config, epath.Path(folder / "run"), image_kind=((16, 16, 3), 256))
    write(run)
    return run


def copy(run: Run, folder) -> Run:
    """The run in a copy of its folder."""
    shutil.copytree(run.directory, folder)
    return run._replace(
        directory=epath.Path(folder), checkpoints=epath.Path(folder) / "checkpoints"
    )
