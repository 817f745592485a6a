"""Which weights, labels, noise and classifier samples are drawn with: held against the same parts put together by hand.

Raw weights are NaN here, so that whatever takes them for their average gives no images at all.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config
from PIL import Image
from support import by_hand, loud

from ddpm_jax.config import guide
from ddpm_jax.run import sampling, state
from ddpm_jax.runtime import images
from ddpm_jax.samplers import guidance
from ddpm_jax.training import train


@pytest.fixture
def run_of_average(digits, tmp_path):
    """Returns a run of a kind in which every raw weight is NaN."""

    def run(kind="plain", **fields):
        made = loud.run_of(loud.config(tiny_config(digits), kind), tmp_path / kind, **fields)
        loud.write(made, loud.train_state(made, raw=0))
        return made

    return run


def assert_same(found, expected):
    """Up to a grey level that rounding tips over here and there."""
    assert found.shape == expected.shape and np.std(expected) > 20
    assert (found != expected).mean() < 0.01


def test_samples_are_of_the_average_without_dropout_and_no_more_than_asked_for(run_of_average):
    run = run_of_average(**{"sample.count": 5, "sample.batch_size": 4})
    sampling.generate(run)
    (path,) = (run.directory / "samples").glob("*.npz")
    by_average = by_hand.denoiser(run, by_hand.average(run))
    expected = by_hand.samples(run, by_average, np.arange(8), seed=5)
    assert_same(np.load(path)["arr_0"], expected[:5])
    assert path.name == "4-ancestral-8-5-seed5.npz"


def test_sample_i_is_of_label_i_modulo_their_number_guided_away_from_none(run_of_average):
    fields = {"sample.count": 12, "sample.batch_size": 12, "sample.guidance": 1.5}
    run = run_of_average("conditional", **fields)
    found = sampling.write_samples(run, *state.read_ema(run))
    guided = by_hand.denoiser(run, by_hand.average(run), np.arange(12) % 10, w=1.5)
    assert_same(found, by_hand.samples(run, guided, np.arange(12), seed=5))


def test_a_label_that_is_asked_for_is_every_sample_s(run_of_average):
    run = run_of_average("conditional", **{"sample.label": 7})
    made = sampling.program_inputs(run, "weights", run.sample.chain, np.arange(12))
    np.testing.assert_array_equal(made.labels, np.full(12, 7))
    assert made.params == "weights"


def test_a_classifier_guides_by_its_own_average_without_dropout_and_by_label_i(run_of_average):
    classifier = run_of_average("classifier")
    fields = {"sample.classifier": str(classifier.directory), "sample.guidance": 20.0}
    run = guide.open_guide(run_of_average(**{"sample.count": 12, "sample.batch_size": 12} | fields))
    found = sampling.write_samples(run, *state.read_ema(run))
    of_classifier, rows = by_hand.average(classifier), np.arange(12)

    def log_p(x_t, t):
        return by_hand.output(classifier, of_classifier, x_t, t)[rows, rows % 10]

    plain = by_hand.denoiser(run, by_hand.average(run))
    guided = guidance.shift_mean(20.0, run.model.sched, plain, log_p)
    expected = by_hand.samples(run, guided, rows, seed=5)
    assert_same(found, expected)
    unguided = by_hand.samples(run, plain, rows, seed=5)
    assert (unguided != expected).mean() > 0.1


def test_training_s_grid_is_of_the_average_and_the_first_samples(run_of_average):
    """Each class has a row of its own."""
    run = run_of_average("conditional", **{"train.grid.count": 22})
    _, current, _ = state.read_newest(run)
    denoise = by_hand.denoiser(run, by_hand.average(run), np.arange(22) % 10)
    expected = by_hand.samples(run, denoise, np.arange(22), seed=5)
    assert_same(train.grid_program(run)(current), images.grid(expected, classes=10))


@pytest.mark.parametrize("label, classes", [(-1, 10), (3, 0)])
def test_the_grid_of_samples_of_all_classes_has_a_row_for_each(
    loud_run, monkeypatch, label, classes
):
    fields = {"sample.count": 22, "sample.batch_size": 22, "sample.label": label}
    run = loud_run("conditional", **fields)
    x_0 = jnp.linspace(-1.0, 1.0, 22 * 64).reshape(22, 8, 8, 1)
    monkeypatch.setattr(sampling, "draw_batch", lambda *_: x_0)
    made = sampling.write_samples(run, 4, {})
    (path,) = (run.directory / "samples").glob("*.png")
    with Image.open(path) as file:
        found = images.original(np.asarray(file)[..., None])
    np.testing.assert_array_equal(found, images.grid(made, classes))
