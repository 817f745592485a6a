"""Images that are rows of a .npy or .npz."""

import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import load
from etils import epath

from ddpm_jax.config import build
from ddpm_jax.datasets import batches, image_folder
from ddpm_jax.datasets.arrays import read_images
from ddpm_jax.datasets.expected import Expected
from ddpm_jax.evaluation import evaluate
from ddpm_jax.run import sampling
from ddpm_jax.training import train


def rows(count=40, shape=(16, 24), dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(dtype)


def prepared(path, tmp_path, size=16, channels=1):
    return image_folder.prepare(
        epath.Path(path), epath.Path(tmp_path / "data"), size, channels, 255, False
    )


def records(directory):
    return list(tfds.builder_from_directory(directory).as_data_source("train"))


@pytest.mark.parametrize("shape", [(16, 24), (16, 24, 1), (16, 24, 3)])
def test_every_row_is_there_as_it_was_in_an_order_that_is_fair(tmp_path, shape):
    images = rows(shape=shape)
    np.save(tmp_path / "some.npy", images)
    found = records(prepared(tmp_path / "some.npy", tmp_path, channels=(*shape, 1)[2]))
    order = [int(record["row"]) for record in found]
    assert sorted(order) == list(range(40)) != order
    for record in found:
        np.testing.assert_array_equal(
            record["image"], images[record["row"]].reshape(16, 24, -1), strict=True
        )


def test_an_npz_s_integers_are_labels(tmp_path):
    images, labels = rows(), np.arange(40) % 7
    np.savez_compressed(tmp_path / "some.npz", arr_0=images, arr_1=labels, note=np.arange(3))
    for record in records(prepared(tmp_path / "some.npz", tmp_path)):
        assert record["label"] == labels[record["row"]]
        np.testing.assert_array_equal(record["image"][..., 0], images[record["row"]])


@pytest.mark.parametrize(
    "arrays, expected",
    [
        ({"arr_1": np.arange(40)[:, None] % 7}, True),
        ({"numbers": np.arange(40), "Label": np.arange(40) % 7}, True),
        ({"y": np.arange(40) % 7, "other": np.arange(40)}, True),
        ({"logits": np.ones((40, 1))}, False),
        ({"minus": np.arange(40) - 1}, False),
    ],
)
def test_which_integers_are_labels(tmp_path, arrays, expected):
    np.savez(tmp_path / "some.npz", images=rows(), **arrays)
    _, labels = read_images(epath.Path(tmp_path / "some.npz"))
    assert (labels is not None) == expected
    if expected:
        np.testing.assert_array_equal(labels, np.arange(40) % 7)


@pytest.mark.parametrize("names", [("a", "b"), ("label", "y")])
def test_two_arrays_that_may_be_labels_are_named(tmp_path, names):
    np.savez(tmp_path / "some.npz", images=rows(), **dict.fromkeys(names, np.arange(40)))
    with pytest.raises(ValueError, match=f"2 arrays that may be labels \\({', '.join(names)}\\)"):
        read_images(epath.Path(tmp_path / "some.npz"))


def test_a_pipe_is_no_file_of_arrays(tmp_path):
    os.mkfifo(tmp_path / "some.npy")
    with pytest.raises(ValueError, match="some.npy is not a file"):
        prepared(tmp_path / "some.npy", tmp_path)


@pytest.mark.parametrize(
    "expected, words",
    [
        (Expected((16, 32, 1), 256), "images are 16x32x1 with 256 .* are 16x24x1 with 256"),
        (Expected((16, 24, 1), 17), "16x24x1 with 17 grey levels, but those of .*some.npz' are 16"),
        (Expected((16, 24, 1), 256, ("a", "b")), "labels are 0: a, 1: b; those of .* are 0: 0"),
    ],
)
def test_images_unlike_a_run_s_are_refused_before_anything_is_written(tmp_path, expected, words):
    np.savez(tmp_path / "some.npz", images=rows(), labels=np.arange(40) % 2)
    path, data_dir = epath.Path(tmp_path / "some.npz"), epath.Path(tmp_path / "data")
    with pytest.raises(ValueError, match=words):
        image_folder.prepare(path, data_dir, 16, 1, 255, False, expected)
    assert not data_dir.exists()


def test_a_changed_array_is_noticed(tmp_path):
    np.save(tmp_path / "some.npy", rows())
    first = prepared(tmp_path / "some.npy", tmp_path)
    assert prepared(tmp_path / "some.npy", tmp_path) == first
    np.save(tmp_path / "some.npy", rows()[::-1])
    assert prepared(tmp_path / "some.npy", tmp_path) != first


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"x": rows(dtype=np.float32)}, "has dtype float32; images must be uint8"),
        ({"x": rows(shape=(3, 16, 24))}, r"has shape \(40, 3, 16, 24\); it must be"),
        ({"x": rows(0)}, r"has shape \(0, 16, 24, 1\)"),
        ({"x": rows(), "y": rows()}, r"holds 2 arrays of images \(x, y\)"),
        ({"labels": np.arange(3)}, r"holds 0 arrays of images \(none\) among \['labels'\]"),
        ({"x": rows(shape=(8, 24))}, "--config.data.image_size=8"),
        ({"x": rows(shape=(16, 24, 3))}, "--config.data.channels=3"),
        ({"x": np.array([{}])}, "not a file of NumPy arrays: Object arrays"),
    ],
)
def test_what_is_no_array_of_images_is_said(tmp_path, arrays, words):
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        prepared(tmp_path / "some.npz", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not numpy's", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_refused(tmp_path, content):
    for name in ("some.npy", "some.npz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not a file of NumPy arrays"):
            prepared(tmp_path / name, tmp_path)
    with pytest.raises(ValueError, match="none.npy does not exist"):
        prepared(tmp_path / "none.npy", tmp_path)


@pytest.mark.slow
def test_gray_and_not_square_goes_through_every_program(tmp_path):
    """The network's shapes, trained, sampled and measured end to end: no single function sees them all."""
    np.save(tmp_path / "some.npy", rows())
    (tmp_path / "data").mkdir()
    config = load("image_folder")
    config.data.update(path=str(tmp_path / "some.npy"), data_dir=str(tmp_path / "data"))
    config.data.update(image_size=16, channels=1, split="train[:75%]", held_out="train[75%:]")
    config.model.update(channels=4, multipliers=(1, 1), blocks=1, attention=(8,))
    config.diffusion.schedule.T = 10
    config.train.update(steps=2, batch_size=8, sample_every=2, log_every=1)
    config.train.grid.update(steps=5, count=3)
    config.sample.update(steps=10, count=5, batch_size=4)
    config.eval.update(images=100, steps=10, batch_size=4)
    config.parallel.devices = 4
    run = build.run(config, epath.Path(tmp_path / "run"))
    assert run.model.shape == (16, 24, 1)
    train.train(run)
    sampling.generate(run)
    evaluate.evaluate(run)
    (samples,) = (tmp_path / "run" / "samples").glob("*.npz")
    assert np.load(samples)["arr_0"].shape == (5, 16, 24, 1)
    (bound,) = (tmp_path / "run" / "eval").glob("*.json")
    assert json.loads(bound.read_text())["images"] == 10
    assert batches.load(run.data.open("train")).records.shape == (40, 16, 24, 1)
