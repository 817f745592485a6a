"""The user's own pictures, whatever they are like."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import ROOT, load
from etils import epath
from PIL import Image, ImageFilter
from support.stub import stubbed

from ddpm_jax.config import build
from ddpm_jax.datasets import batches, image_folder, shards
from ddpm_jax.datasets.encoding import encode_png
from ddpm_jax.evaluation import evaluate
from ddpm_jax.training import train

RED, BLUE = (255, 0, 0), (0, 0, 255)


def half_and_half(mode, size=(40, 40)):
    """Red left, blue right."""
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


@pytest.fixture
def zoo(tmp_path):
    """One of every kind but for the huge, in folders of two classes."""
    folder = tmp_path / "zoo"
    (folder / "cats" / "deep").mkdir(parents=True)
    (folder / "dogs").mkdir()
    half_and_half("L").save(folder / "cats" / "gray.png")
    clear = half_and_half("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 40, 20))
    clear.save(folder / "cats" / "clear.webp", lossless=True)
    half_and_half("CMYK").save(folder / "cats" / "deep" / "print.jpg", quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    half_and_half("RGB").save(folder / "dogs" / "turned.jpg", exif=turned, quality=95)
    Image.new("RGB", (1, 1), (10, 20, 30)).save(folder / "dogs" / "pixel.bmp")
    Image.fromarray(np.full((40, 60), 51 * 257, np.uint16)).save(folder / "dogs" / "deep.tiff")
    half_and_half("P").save(folder / "dogs" / "palette.gif")
    (folder / "dogs" / "notes.txt").write_text("not a picture")
    (folder / "dogs" / "paper.pdf").write_text("a form that pillow only writes")
    (folder / "dogs" / ".hidden.png").write_text("not a picture either")
    return folder


def prepared(folder, tmp_path, size=16, channels=3, background=255, skip=False):
    root = epath.Path(tmp_path / "data")
    form = (size, channels, background, skip)
    return image_folder.prepare(epath.Path(folder), root, *form)


def read(directory):
    """path: (image, label)."""
    builder = tfds.builder_from_directory(directory)
    names = builder.info.features["label"].names
    return {
        record["path"].decode(): (record["image"], names[record["label"]])
        for record in builder.as_data_source("train")
    }


def test_every_kind_of_picture_is_what_the_documentation_says(zoo, tmp_path, capsys):
    found = read(prepared(zoo, tmp_path))
    assert "2 other files are left out" in capsys.readouterr().out
    assert {path: label for path, (_, label) in found.items()} == {
        "cats/gray.png": "cats",
        "cats/clear.webp": "cats",
        "cats/deep/print.jpg": "cats",
        "dogs/turned.jpg": "dogs",
        "dogs/pixel.bmp": "dogs",
        "dogs/deep.tiff": "dogs",
        "dogs/palette.gif": "dogs",
    }
    images = {path: image.astype(int) for path, (image, _) in found.items()}
    assert all(image.shape == (16, 16, 3) for image in images.values())

    def near(path, row, column, color, within=12):
        np.testing.assert_allclose(images[path][row, column], color, atol=within)

    near("cats/gray.png", 8, 2, (76, 76, 76), 1)  # ITU-R 601's gray of red
    near("cats/clear.webp", 2, 2, (255, 255, 255), 1)
    near("cats/clear.webp", 13, 2, RED, 1)
    near("cats/deep/print.jpg", 8, 2, RED)
    near("dogs/turned.jpg", 2, 8, RED)  # what was left is above
    near("dogs/turned.jpg", 13, 8, BLUE)
    np.testing.assert_array_equal(images["dogs/pixel.bmp"], np.full((16, 16, 3), (10, 20, 30)))
    near("dogs/deep.tiff", 8, 8, (51, 51, 51), 1)
    near("dogs/palette.gif", 8, 13, BLUE, 1)


@pytest.mark.slow
def test_a_scan_of_195_megapixels_is_read(tmp_path):
    """More than pillow takes by itself; it takes seconds and gigabytes."""
    (tmp_path / "scans").mkdir()
    half_and_half("1", (15000, 13000)).save(tmp_path / "scans" / "HUGE.PNG")
    ((image, _),) = read(prepared(tmp_path / "scans", tmp_path)).values()
    # ITU-R 601's grays of red and blue, which two colours can only dither
    assert image[:, :8].mean() == pytest.approx(76, abs=3)
    assert image[:, 8:].mean() == pytest.approx(29, abs=3)


def test_channels_and_background_are_choices(zoo, tmp_path):
    found = read(prepared(zoo, tmp_path, channels=1, background=0))
    assert all(image.shape == (16, 16, 1) for image, _ in found.values())
    assert found["cats/clear.webp"][0][2, 2, 0] == 0


def test_the_crop_is_the_centre_and_the_filter_does_not_alias():
    wide = Image.new("RGB", (80, 40), BLUE)
    wide.paste(RED, (20, 0, 60, 40))
    file = encoded(wide)
    np.testing.assert_array_equal(
        image_folder.decode_square(file, 8, 3, 255), np.full((8, 8, 3), RED, np.uint8)
    )
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32)))
    gray = image_folder.decode_square(encoded(stripes), 16, 1, 255)
    assert np.abs(gray[2:-2, 2:-2].astype(int) - 128).max() < 8
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    smooth = noise.filter(ImageFilter.GaussianBlur(4))
    small = image_folder.decode_square(encoded(smooth), 16, 1, 255).astype(int)
    blocks = np.asarray(smooth).reshape(16, 4, 16, 4).mean((1, 3))
    assert np.abs(small - blocks).max() < 6


def encoded(image):
    return encode_png(np.asarray(image)).getvalue()


def test_an_unreadable_picture_is_named_and_left_out_only_on_request(zoo, tmp_path, capsys):
    whole = (zoo / "cats" / "gray.png").read_bytes()
    (zoo / "cats" / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError, match=r"cats/cut.png cannot be read: .*skip_unreadable=True"):
        prepared(zoo, tmp_path)
    found = read(prepared(zoo, tmp_path, skip=True))
    assert len(found) == 7 and "cats/cut.png" not in found
    assert f"skipped {zoo}/cats/cut.png: " in capsys.readouterr().out


def test_a_changed_folder_is_noticed_and_an_unchanged_one_is_not_read_again(
    zoo, tmp_path, capsys, monkeypatch
):
    first = prepared(zoo, tmp_path)
    monkeypatch.setattr(image_folder, "decode_square", None)  # it would raise if it were called
    assert prepared(zoo, tmp_path) == first
    os.utime(zoo / "cats" / "gray.png", (1, 1))  # touched, but the same
    assert prepared(zoo, tmp_path) == first
    monkeypatch.undo()
    half_and_half("RGB").save(zoo / "cats" / "gray.png")
    second = prepared(zoo, tmp_path)
    assert second != first and read(second).keys() == read(first).keys()
    (zoo / "cats" / "gray.png").unlink()
    assert "cats/gray.png" not in read(prepared(zoo, tmp_path))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda folder: None, "is not a folder"),
        (lambda folder: folder.mkdir(), "holds no picture among its 0 files"),
    ],
)
def test_no_pictures_is_said(tmp_path, make, words):
    make(tmp_path / "none")
    with pytest.raises(ValueError, match=words):
        prepared(tmp_path / "none", tmp_path)


def test_it_trains_and_evaluates_on_slices_that_do_not_meet(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "many").mkdir()
    for i in range(40):
        pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "many" / f"{i}.png")
    (tmp_path / "data").mkdir()
    config = load("image_folder")
    config.data.update(path=str(tmp_path / "many"), data_dir=str(tmp_path / "data"), image_size=16)
    config.data.update(split="train[:75%]", held_out="train[75%:]", channels=1)
    config.model.update(channels=4, multipliers=(1,), blocks=1, attention=())
    config.train.update(steps=2, batch_size=8, sample_every=0, log_every=1)
    config.diffusion.schedule.T = 10
    config.train.grid.steps = 10
    config.sample.steps = 10
    config.eval.update(images=100, steps=10, batch_size=5)
    config.parallel.devices = 1
    run = stubbed(build.run(config, epath.Path(tmp_path / "run")))
    assert run.model.shape == (16, 16, 1)
    train.train(run)
    evaluate.evaluate(run)
    record = json.loads((tmp_path / "run" / "eval" / "2-likelihood-train-75to.json").read_text())
    assert record["images"] == 10 and record["split"] == "train[75%:]"
    parts = [batches.load(run.data.open(split)) for split in (run.data.split, run.data.held_out)]
    assert [part.count for part in parts] == [30, 10]
    every = np.concatenate([part.records for part in parts])
    assert len(np.unique(every.reshape(40, -1), axis=0)) == 40


PREPARE = """
import sys
sys.path.insert(0, sys.argv[1])
from etils import epath
from ddpm_jax.datasets import image_folder, shards
from ddpm_jax.datasets.encoding import encode_png
shards.SHARD = 16
print(image_folder.prepare(epath.Path(sys.argv[2]), epath.Path(sys.argv[3]), 64, 3, 255, False))
"""


@pytest.mark.slow
def test_a_preparation_that_is_killed_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    """SIGKILL can be had only by a real process."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(120):
        small = rng.integers(0, 256, (60, 60, 3), np.uint8)
        Image.fromarray(small).resize((900, 900)).save(folder / f"{i}.png", compress_level=1)
    monkeypatch.setattr(shards, "SHARD", 16)
    whole = image_folder.prepare(epath.Path(folder), epath.Path(tmp_path / "a"), 64, 3, 255, False)
    args = [sys.executable, "-c", PREPARE, str(ROOT), str(folder), str(tmp_path / "b")]
    killed = 0
    for kept in (1, 3, 5):
        process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in itertools.count():
            if len(list((tmp_path / "b").glob("*/*/*.unfinished/image_folder-*"))) >= kept:
                break
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed == 3 and not list((tmp_path / "b").glob("*/*/1.0.0"))
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    other = done.stdout.splitlines()[-1]
    ours, theirs = read(epath.Path(other)), read(whole)
    assert list(ours) == list(theirs) and len(ours) == 120
    for path, (image, label) in ours.items():
        np.testing.assert_array_equal(image, theirs[path][0])
        assert label == theirs[path][1]
    shutil.rmtree(folder)
