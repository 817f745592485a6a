"""The codec of a trained network, at 32x32: files against its own bound, drift, and the gain from training."""

import os

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from support import gaussian_source
from support.codec_network import drifting
from support.command import ddpm

from ddpm_jax.codec import calibration, chain, file_header, image_file, measure, model
from ddpm_jax.codec.commands import inputs
from ddpm_jax.codec.errors import CorruptStream
from ddpm_jax.config import build, stored_config
from ddpm_jax.run import model as models
from ddpm_jax.run import state

pytestmark = pytest.mark.slow
SHAPE, TRAINED_ON, FILES = (32, 32, 3), 96, 5
SMALL = [
    "--config=configs/image_folder.py",
    "--config.data.image_size=32",
    "--config.data.flip=False",
    "--config.data.split=train",
    "--config.data.held_out=",
    "--config.model.channels=8",
    "--config.model.multipliers=(1,2)",
    "--config.model.blocks=1",
    "--config.model.attention=()",
    "--config.model.dropout=0.0",
    "--config.optimizer.learning_rate=2e-3",
    "--config.optimizer.warmup=50",
    "--config.optimizer.ema_decay=0.97",
    "--config.train.steps=200",
    "--config.train.batch_size=16",
    "--config.train.sample_every=0",
    "--config.train.grid.steps=2",
    "--config.train.grid.count=1",
    "--config.eval.images=0",
    "--config.eval.quality.samples=0",
    "--config.parallel.devices=1",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run by the commands, calibrated on its training images."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("pictures", "tfds"):
        (folder / name).mkdir()
    for number, image in enumerate(gaussian_source.images(SHAPE, TRAINED_ON, seed=1)):
        Image.fromarray(image).save(folder / "pictures" / f"{number:03d}.png")
    where = [f"--config.data.path={folder}/pictures", f"--config.data.data_dir={folder}/tfds"]
    for each in ([*SMALL, *where], ["--mode=calibrate"]):
        status, _, err = ddpm(f"--workdir={folder}/run", *each)
        assert status == 0, err
    return build.run(stored_config.get_config(folder / "run"), epath.Path(folder / "run"))


@pytest.fixture(scope="module")
def codec(trained):
    return inputs.open_codec(trained, "portable")


@pytest.fixture(scope="module")
def files(codec, tmp_path_factory):
    """Images not seen in training, and the paths of their files."""
    folder, found = tmp_path_factory.mktemp("files"), []
    for number, image in enumerate(gaussian_source.images(SHAPE, FILES, seed=2)):
        path = folder / f"{number}.djx"
        path.write_bytes(image_file.compress(image, codec))
        found.append((image, path))
    return found


def test_files_are_as_large_as_the_bound_of_the_trained_network_and_not_smaller(
    trained, codec, files
):
    """Sizes on disk, without header, are 1.00 - 3 SE to 1.09 times the bound."""
    sizes = np.array([8 * os.stat(path).st_size for _, path in files])
    header = 8 * file_header.unpack(files[0][1].read_bytes())[1]

    def bound(image, seed):
        given = trained.model.sched, codec.calibration, codec.predict, image, codec.levels, seed
        return measure.bound(*given).total

    # Different draws for each image, as the error is that of means over images.
    bounds = np.array(
        [
            np.mean([bound(image, 2 * i), bound(image, 2 * i + 1)])
            for i, (image, _) in enumerate(files)
        ]
    )
    error = (sizes / bounds).std(ddof=1) / np.sqrt(len(files))
    assert (sizes.mean() - header) / bounds.mean() > 1.0 - 3 * error
    assert (sizes.mean() - header) / bounds.mean() < 1.09
    for image, path in files:
        out = image_file.decompress(path.read_bytes(), codec)
        assert out.lossless and (out.image == image).all()


def test_initial_weights_make_much_larger_files(trained, codec, files):
    """On the same images, with a calibration of their own."""
    params = jax.jit(lambda key: models.initial(trained.model, key))(jax.random.key(0))
    images, times = (
        gaussian_source.images(SHAPE, 64, seed=1),
        calibration.time_grid(trained.model.sched, 12),
    )
    errors = measure.errors(trained.model, params, images, times)
    curve = calibration.error_curve(trained.model.sched, times, errors)
    plan = calibration.plan_steps(trained.model.sched, curve, int(np.prod(SHAPE)))
    ignorant = model.codec(trained.model, trained.config, params, plan)
    for image, path in files[:2]:
        content = image_file.compress(image, ignorant)
        assert len(content) > 1.3 * os.stat(path).st_size
        assert (image_file.decompress(content, ignorant).image == image).all()


def test_drift_of_half_the_margin_changes_nothing_and_of_a_millionth_is_noticed(codec, files):
    """Of a trained network's files: an untrained one's predictions hardly matter to them."""
    half = drifting(codec, lambda t: 0.5 * chain.MARGIN / codec.signal[t])
    for image, path in files:
        assert (image_file.decompress(path.read_bytes(), half).image == image).all()
        with pytest.raises(CorruptStream, match="drift"):
            image_file.decompress(path.read_bytes(), drifting(codec, lambda t: 1e-6))


def test_weights_off_by_a_hundredth_are_noticed_even_if_their_hash_is_forged(trained, codec, files):
    """Of a trained network's files: an untrained one's weights hardly matter to them."""
    random, params = np.random.default_rng(0), jax.device_get(state.read_ema(trained)[1])
    off = jax.tree.map(
        lambda leaf: (leaf * (1.0 + 0.01 * random.normal(size=leaf.shape))).astype(leaf.dtype),
        params,
    )
    near = model.codec(trained.model, trained.config, off, codec.calibration)
    for _, path in files:
        with pytest.raises(CorruptStream, match="drift"):
            image_file.decompress(path.read_bytes(), near._replace(model=codec.model))
