"""Near copies of training images: whether they are found, and only they."""

import itertools

import numpy as np
import pytest
from etils import epath

from ddpm_jax.datasets import pixels
from ddpm_jax.datasets.source import Source
from ddpm_jax.figures import nearest
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.metrics import features, near_copies

SHAPE = (6, 5, 1)


def pictures(seed, count):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def nudge(images):
    """Moves every pixel by one grey level."""
    return np.where(images < 128, images + 1, images - 1).astype(np.uint8)


@pytest.fixture
def search(tmp_path, monkeypatch):
    """Finds the nearest images of a training set in small pieces, so that equal ones are in several."""
    monkeypatch.setattr(nearest, "CHUNK_VALUES", 7 * 30)
    monkeypatch.setattr(nearest, "PART", 20)
    folders = (epath.Path(tmp_path) / str(number) for number in itertools.count())

    def found(training, queries, k=5):
        trained = TrainedRun(None, 4, {}, None, next(folders))
        source = Source("made", training, SHAPE, 256)
        return nearest.search(trained, source, queries, features.pixels(), nearest.WHOLE, k)

    return found


def test_near_copies_are_all_of_nudged_training_images_and_none_of_independent_ones(search):
    training = pictures(0, 50)
    queries = np.concatenate([nudge(training[:30]), pictures(1, 40)])
    found = near_copies.measure(search(training, queries).distances, 30)
    assert (found["share"], found["images"]) == (1.0, 30) and 0 < found["median_ratio"] < 0.05
    assert (found["held_out_share"], found["held_out_images"]) == (0.0, 40)
    other = near_copies.measure(search(training, queries[::-1]).distances, 40)
    assert (other["share"], other["held_out_share"]) == (0.0, 1.0)
    assert 0.5 < other["median_ratio"] < 1.0
    assert "100.0% of 30 samples" in near_copies.describe(found)


def test_a_copy_of_an_image_that_the_training_set_holds_many_times_is_still_one(search):
    """The second nearest is another image; 0/0 would be the ratio to the same one again."""
    one, *others = pictures(0, 9)
    training = np.stack([one] * 15 + others + [one] * 15 + others[:2])
    queries = np.stack([one, nudge(one), *others])
    neighbours = search(training, queries)
    found = near_copies.measure(neighbours.distances, len(queries))
    assert found["share"] == 1.0
    assert neighbours.places[0, 0] == 0  # the first of those that are equal
    for row in neighbours.places:
        assert len(np.unique(training[row], axis=0)) == 5
    assert search(training, queries, k=20).places.shape == (10, 9)  # no more are different


def test_without_a_second_image_there_is_nothing_to_compare(search):
    training = np.repeat(pictures(0, 1), 30, axis=0)
    neighbours = search(training, pictures(1, 3))
    assert neighbours.places.tolist() == [[0]] * 3
    assert near_copies.measure(neighbours.distances, 3) is None
    assert "all training images are equal" in near_copies.describe(None)


def test_the_figure_counts_near_copies_among_samples_and_held_out_images(
    loud_run, monkeypatch, capsys
):
    run = loud_run()
    source = run.data.open("train")
    training = pixels.stretch(source.read(np.arange(20)), source.levels)
    monkeypatch.setattr(nearest, "measured_samples", lambda trained: nudge(training))
    trained = TrainedRun(run, 4, {}, None, run.directory / "kept")
    facts = nearest.nearest(trained).facts
    found = facts["near_copies"]
    assert (found["share"], found["images"]) == (1.0, 20)
    assert found["held_out_images"] == 256 and found["held_out_share"] < 0.05
    assert [row[0] for row in facts["pixels"]["whole"]["indices"]] == list(range(nearest.SAMPLES))
    assert "near copies: 100.0% of 20 samples" in capsys.readouterr().out
    without = run._replace(data=run.data._replace(held_out=""))
    found = nearest.nearest(trained._replace(run=without)).facts["near_copies"]
    assert (found["held_out_share"], found["held_out_images"]) == (None, 0)
