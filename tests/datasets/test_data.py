"""Batches as a pure function of (seed, n), from real data sets, without TensorFlow."""

import itertools
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from ddpm_jax.datasets import batches, pixels
from ddpm_jax.datasets import source as sources


@pytest.fixture(scope="module")
def train(digits):
    return batches.load(sources.open_data_set("digits", str(digits), "train", 8))


def take(source, seed, size, rows, first, last):
    return np.stack(
        [batch.images for batch in batches.batches(source, seed, size, rows, first, last)]
    )


def test_digits_are_scikit_learn_s_split_in_two(digits, train):
    test = batches.load(sources.open_data_set("digits", str(digits), "test", 8))
    assert (train.count, test.count, train.shape, train.levels) == (1437, 360, (8, 8, 1), 17)
    both = np.concatenate([train.records, test.records]).reshape(-1, 64)
    original = load_digits().data.astype(np.uint8)

    def in_order(rows):
        return rows[np.lexsort(rows.T)]

    np.testing.assert_array_equal(in_order(both), in_order(original))


def test_reading_needs_no_tensorflow(train):
    assert "tensorflow" not in sys.modules


def test_images_decoded_one_by_one_are_the_ones_in_memory(digits, train):
    lazy, some = sources.open_data_set("digits", str(digits), "train", 8), np.array([0, 700, 1436])
    np.testing.assert_array_equal(lazy.read(some), train.read(some))
    batches = [take(source, 0, 8, slice(0, 8), 3, 5) for source in (lazy, train)]
    np.testing.assert_array_equal(*batches)


def test_batch_n_does_not_depend_on_where_one_begins(train):
    whole = take(train, 7, 16, slice(0, 16), 0, 12)
    for first in (1, 5, 11):
        np.testing.assert_array_equal(take(train, 7, 16, slice(0, 16), first, 12), whole[first:])


def test_slices_of_processes_make_up_the_global_batch(train):
    whole = take(train, 7, 16, slice(0, 16), 2, 4)
    parts = [take(train, 7, 16, slice(i, i + 4), 2, 4) for i in range(0, 16, 4)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_every_epoch_is_another_whole_permutation():
    epochs = [batches.batch_indices(100, 3, 100, e).tolist() for e in range(3)]
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)
    assert all(a != b for a, b in itertools.combinations(epochs, 2))
    assert batches.batch_indices(100, 4, 100, 0).tolist() not in epochs


@pytest.mark.parametrize("size", [7, 16, 100, 230])
def test_batches_cut_one_sequence_wherever_epochs_end(size):
    """A batch may end one epoch and begin the next, or hold more than a whole one."""
    needed = -(-700 // size)
    cut = np.concatenate([batches.batch_indices(100, 3, size, n) for n in range(needed)])
    whole = np.concatenate([batches.permutation(100, 3, epoch) for epoch in range(7)])
    np.testing.assert_array_equal(cut[:700], whole)


def test_the_order_is_the_one_of_every_release():
    """Recorded: a run that goes on under another NumPy must go on with the same batches."""
    assert batches.permutation(10, 0, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert batches.batch_indices(50_000, 0, 3, 700_000).tolist() == [12581, 32485, 32454]


def test_neighbours_of_one_epoch_are_no_neighbours_of_the_next():
    """Of random permutations, about two adjacent pairs are adjacent in both."""

    def pairs(epoch):
        order = batches.permutation(50_000, 0, epoch)
        return set(map(tuple, np.sort(np.stack([order[1:], order[:-1]], axis=1)).tolist()))

    epochs = [pairs(e) for e in range(6)]
    assert max(len(a & b) for a, b in itertools.pairwise(epochs)) < 12


def test_reading_begins_late_as_soon_as_at_once(train):
    """Two permutations, whatever the step: none is made for what came before."""
    batches.permutation.cache_clear()
    take(train, 7, 16, slice(0, 16), 700_000, 700_002)
    assert batches.permutation.cache_info().misses <= 2


def test_normalizing_is_the_release_s_and_quantizing_inverts_it():
    bytes_ = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
    x_0 = pixels.normalize(bytes_, 256)
    np.testing.assert_allclose(x_0.ravel(), np.arange(256) / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(pixels.quantize(x_0, 256), bytes_)
    grey = pixels.quantize(pixels.normalize(bytes_.ravel()[:17].reshape(1, 1, 17, 1), 17), 17)
    np.testing.assert_array_equal(grey.ravel(), np.round(np.arange(17) * 255 / 16))
    assert pixels.quantize(jnp.full((1, 1, 1, 1), 7.0), 17).item() == 255


def test_a_flip_mirrors_left_to_right_the_chosen_images_only():
    images = jax.random.normal(jax.random.key(0), (2, 3, 4, 1))
    flipped = pixels.flip(images, jnp.array([True, False]))
    np.testing.assert_array_equal(flipped[0], np.asarray(images)[0, :, ::-1])
    np.testing.assert_array_equal(flipped[1], images[1])


@pytest.mark.parametrize(
    "name, data_dir, split, size, fault",
    [
        ("digits", "/nowhere", "train", 8, "data.data_dir /nowhere does not exist"),
        ("digitz", "", "train", 8, "no data set 'digitz'"),
        ("digits", "here", "validation", 8, "no split 'validation'; it has"),
        ("digits", "here", "train", 32, "data.image_size is 32"),
    ],
)
def test_what_is_not_there_is_named(digits, name, data_dir, split, size, fault):
    with pytest.raises(ValueError, match=fault):
        sources.open_data_set(name, str(digits) if data_dir == "here" else data_dir, split, size)


@pytest.mark.skipif("DDPM_JAX_TFDS" not in os.environ, reason="no prepared CIFAR-10 was named")
@pytest.mark.slow
def test_cifar10_as_tfds_prepares_it():
    """On the real data set, which nothing small stands for."""
    source = batches.load(
        sources.open_data_set("cifar10", os.environ["DDPM_JAX_TFDS"], "train", 32)
    )
    assert (source.count, source.shape, source.levels) == (50_000, (32, 32, 3), 256)
    mean, std = source.records.mean(axis=(0, 1, 2)), source.records.std(axis=(0, 1, 2))
    np.testing.assert_allclose(mean, [125.307, 122.950, 113.865], atol=1e-2)  # widely published
    np.testing.assert_allclose(std, [62.993, 62.089, 66.705], atol=1e-2)
