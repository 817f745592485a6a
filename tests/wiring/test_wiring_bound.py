"""Which weights, labels, noise and images the bound and a classifier's accuracy are of, held against the same by hand."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import by_hand

from ddpm_jax import diffusion, parameterization
from ddpm_jax.evaluation import evaluate
from ddpm_jax.losses import bound as bound_terms
from ddpm_jax.samplers import loop

COUNT = 12  # images, in batches of 8: the last is filled up


def written(run, name):
    return json.loads((run.directory / "eval" / f"4-{name}.json").read_text())


@pytest.mark.parametrize("kind", ["plain", "conditional"])
def test_the_bound_is_of_the_average_clipped_on_each_image_once_with_its_own_noise(loud_run, kind):
    """Images are not mirrored, though training mirrors them; no seed but eval.seed has a part in it."""
    run = loud_run(kind, **{"eval.images": COUNT, "eval.train_images": COUNT})
    assert run.data.flip and run.eval.batch_size == 8
    evaluate.evaluate(run)
    params = by_hand.average(run)

    @jax.jit
    def bound(x_0, labels, keys):
        denoise = by_hand.denoiser(run, params, labels)
        steps = bound_terms.strata(8, 8)
        return bound_terms.bound(
            run.model.sched, parameterization.fixed_large, denoise, x_0, keys, steps, 17
        )

    for split in ("test", "train"):
        found = written(run, f"likelihood-{split}")
        expected = bound(*by_hand.images(run, split, COUNT), by_hand.keys(7, range(COUNT)))
        for name in ("rate", "distortion", "prior"):
            value = float(getattr(expected, name).mean())
            assert found[name] == pytest.approx(value, rel=1e-4), name
        rmse = 127.5 * np.sqrt(np.asarray(expected.mse, np.float64).mean(axis=0))
        np.testing.assert_allclose(found["terms"]["rmse"], rmse, rtol=1e-3)
        error = np.asarray(expected.total, np.float64).std(ddof=1) / COUNT**0.5
        assert found["standard_error"] == pytest.approx(error, rel=1e-2)
        assert (found["images"], found["seed"], found["weights"]) == (COUNT, 7, "ema")


def test_accuracy_is_of_the_average_without_dropout_on_each_image_once(loud_run):
    run = loud_run("classifier", **{"eval.images": COUNT})
    evaluate.evaluate(run)
    found, params = written(run, "accuracy-test"), by_hand.average(run)
    x_0, labels = by_hand.images(run, "test", COUNT)
    keys = by_hand.keys(7, range(COUNT))

    @jax.jit
    def says(t):
        times, eps = jnp.full(COUNT, t), loop.draw_noise(keys, t, run.model.shape)
        x_t = diffusion.q_sample(run.model.sched, x_0, times, eps)
        return by_hand.output(run, params, x_t, times)

    assert found["t"] == list(range(1, 9)) and found["images"] == COUNT
    for i, t in enumerate(found["t"]):
        log_p = np.asarray(says(jnp.asarray(t)))
        right = log_p.argmax(axis=1) == labels
        assert found["accuracy"][i] == pytest.approx(right.mean())
        nats = -log_p[np.arange(COUNT), labels].mean()
        assert found["cross_entropy"][i] == pytest.approx(nats, rel=1e-3)
