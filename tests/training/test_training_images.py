"""The picture of real training images that is written beside the sample grids."""

import numpy as np
import pytest
from PIL import Image

from ddpm_jax.datasets import batches, pixels
from ddpm_jax.runtime import images
from ddpm_jax.training import start


def shown(run):
    """The grid as it is before its enlargement."""
    with Image.open(run.directory / "samples" / "training-images.png") as file:
        return images.original(np.asarray(file)[..., None])


def test_they_are_the_images_of_the_first_batch_as_they_are_trained_on(loud_run):
    run = loud_run(**{"train.sample_every": 2, "train.grid.count": 16})
    source = run.data.open("train")
    start.show_images(run, source, 0)
    first = source.read(batches.batch_indices(source.count, run.seed, 16, 0))
    np.testing.assert_array_equal(shown(run), images.grid(pixels.stretch(first, source.levels)))
    path = run.directory / "samples" / "training-images.png"
    path.write_bytes(b"")
    start.show_images(run, source, 4)  # as a resumed run does
    assert path.read_bytes() == b""
    start.show_images(
        run, source, 0
    )  # as another config does in a folder where nothing was trained
    assert path.read_bytes()


def test_each_class_has_a_row_of_its_own(loud_run):
    run = loud_run("conditional", **{"train.sample_every": 2, "train.grid.count": 30})
    source = batches.load(run.data.open("train"), labelled=True)
    start.show_images(run, source, 0)
    grid, known = shown(run), pixels.stretch(source.records, source.levels)
    assert grid.shape == (10 * 9 - 1, 3 * 9 - 1, 1)
    for row in range(10):
        for column in range(3):
            cell = grid[9 * row : 9 * row + 8, 9 * column : 9 * column + 8]
            same = (known == cell).all(axis=(1, 2, 3))
            assert set(source.loaded_labels[same]) == {row}


def test_without_enough_images_of_a_class_they_come_as_they_are():
    order, labels = np.array([7, 3, 5, 1, 0]), np.array([1, 0, 1, 1, 0])
    assert start.take_in_turn(order, labels, 4, 2).tolist() == [3, 7, 0, 5]
    assert start.take_in_turn(order, labels, 5, 2) is None
    assert start.take_in_turn(order, labels, 3, 3) is None


@pytest.mark.parametrize("fields", [{"train.sample_every": 0}])
def test_a_run_without_sample_grids_has_no_such_picture(loud_run, fields):
    run = loud_run(**fields)
    start.show_images(run, run.data.open("train"), 0)
    assert not (run.directory / "samples").exists()
