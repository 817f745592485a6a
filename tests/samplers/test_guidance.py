"""Labels from the data to the network, and guidance by them against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config
from etils import epath
from support.mixture import PARTS, SCHED, denoiser, log_p
from support.stub import stubbed

from ddpm_jax import diffusion, parameterization
from ddpm_jax.config import build
from ddpm_jax.datasets import batches
from ddpm_jax.datasets import source as sources
from ddpm_jax.parameterization import Denoised
from ddpm_jax.run import model, sampling, state
from ddpm_jax.samplers import guidance
from ddpm_jax.training import train


def test_guidance_is_the_score_of_the_sharpened_posterior(x64):
    """Of p(x_t) p(label | x_t)^(1 + w), whose label's probability is had from the densities."""
    w, label = 1.7, 2
    x_t = jnp.linspace(-2.0, 2.0, 9).reshape(9, 1, 1, 1)
    t = jnp.array([1, 1, 5, 5, 20, 20, 40, 50, 50])

    def sharpened(x, t):
        of_label = log_p(x, t, label) + jnp.log(PARTS[label])
        return log_p(x, t, None) + (1 + w) * (of_label - log_p(x, t, None))

    score = jax.vmap(jax.grad(sharpened))(x_t.ravel(), t).reshape(x_t.shape)
    found = guidance.classifier_free(w, denoiser(label), denoiser(None))(x_t, t)
    eps = diffusion.eps_from_x_0(SCHED, x_t, found.x_0, t)
    np.testing.assert_allclose(eps, -diffusion.sigma(SCHED, t) * score, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("w, other", [(0.0, 1), (-1.0, None)])
def test_weights_0_and_minus_1_are_the_two_models(w, other):
    x_t, t = jnp.linspace(-2.0, 2.0, 5).reshape(5, 1, 1, 1), jnp.array([1, 5, 20, 40, 50])
    found = guidance.classifier_free(w, denoiser(1), denoiser(None))(x_t, t)
    np.testing.assert_allclose(found.x_0, denoiser(other)(x_t, t).x_0, atol=1e-6)


def test_a_mean_of_the_network_s_own_is_guided_too():
    x_t, t = jnp.zeros((2, 1, 1, 1)), jnp.array([3, 4])

    def says(x_0, mean):
        return lambda x_t, t: Denoised(x_t + x_0, mean=x_t + mean, variance=x_t)

    found = guidance.classifier_free(2.0, says(0.5, 0.2), says(0.1, 0.1))(x_t, t)
    np.testing.assert_allclose(found.x_0, 1.3, rtol=1e-6)
    np.testing.assert_allclose(found.mean, 0.4, rtol=1e-6)


def conditional(digits, directory, **fields):
    config = tiny_config(digits)
    config.model.classes, config.train.label_dropout = 10, 0.25
    config.update_from_flattened_dict(fields)
    return build.run(config, epath.Path(directory))


def test_labels_come_with_their_images_in_every_batch(digits):
    source = sources.open_data_set("digits", str(digits), "train", 8)
    loaded = batches.load(source, labelled=True)
    assert source.classes == 10
    for some in (source, loaded):
        (batch,) = batches.batches(some, 0, 24, slice(8, 24), 3, 4, labelled=True)
        rows = batches.batch_indices(source.count, 0, 24, 3, slice(8, 24))
        np.testing.assert_array_equal(batch.images, source.read(rows))
        np.testing.assert_array_equal(batch.labels, source.labels(rows))
        assert batch.labels.dtype == np.int32
    (plain,) = batches.batches(loaded, 0, 24, slice(8, 24), 3, 4)
    assert plain.labels is None


def test_training_hides_some_labels_and_no_others(digits, tmp_path, monkeypatch):
    run = stubbed(conditional(digits, tmp_path))
    current = jax.jit(lambda: state.initial(run))()
    labels, seen = jnp.arange(4000) % 10, {}

    def kept(run, params, examples, dropout):
        seen["labels"] = examples.labels
        raise InterruptedError

    monkeypatch.setattr(train.gradient, "gradient", kept)
    with pytest.raises(InterruptedError):
        train.train_step(run, current, sources.Batch(jnp.zeros((4000, 8, 8, 1), jnp.uint8), labels))
    hidden = np.asarray(seen["labels"]) == 10
    assert abs(hidden.mean() - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    np.testing.assert_array_equal(seen["labels"][~hidden], labels[~hidden])


def test_the_network_hears_its_label(loud_run):
    """Each of the eleven has an output of its own, and each image by its own label."""
    run = loud_run("conditional")
    _, params = state.read_ema(run)
    x, t = jnp.ones((11, 8, 8, 1)), jnp.full(11, 4)
    heard = jax.jit(lambda labels: model.network(run.model, params, labels=labels)(x, t))
    outputs = np.asarray(heard(jnp.arange(11)))
    assert len(np.unique(outputs[:, 0, 0, 0].round(5))) == 11
    np.testing.assert_allclose(heard(jnp.arange(11)[::-1]), outputs[::-1], atol=1e-5)


@pytest.mark.slow
def test_samples_of_a_label_are_guided_by_it_and_named_after_it(loud_run):
    """Three chains of a conditional network, each compiled."""

    def images(**fields):
        run = loud_run("conditional", **fields)
        return run, sampling.write_samples(run, *state.read_ema(run))

    run, plain = images()
    assert run.sample.chain.name == "ancestral-8"
    _, third = images(**{"sample.label": 3})
    guided_run, guided = images(**{"sample.guidance": 2.0})
    name = "4-ancestral-8-w2-8-seed5.npz"
    assert guided_run.sample.chain.name == "ancestral-8-w2"
    assert (guided_run.directory / "samples" / name).exists()
    assert (guided_run.directory / "samples" / "4-ancestral-8-label3-8-seed5.npz").exists()
    np.testing.assert_array_equal(third[3], plain[3])  # sample 3 is of class 3 as it is
    assert sampling.find_samples(run, 4, 8) is not None
    np.testing.assert_array_equal(sampling.find_samples(run, 4, 8), plain)


def test_guidance_of_weight_0_is_the_conditional_model_itself(loud_run):
    run = loud_run("conditional")
    _, params = state.read_ema(run)
    x, t, labels = jnp.ones((3, 8, 8, 1)), jnp.full(3, 4), jnp.array([1, 2, 3])
    network = model.network(run.model, params, labels=labels)
    plain = parameterization.denoiser(run.model.parameterization, run.model.sched, network)
    found = jax.jit(model.denoiser(run.model, params, labels, 0.0))(x, t)
    np.testing.assert_array_equal(found.x_0, jnp.clip(jax.jit(plain)(x, t).x_0, -1.0, 1.0))
