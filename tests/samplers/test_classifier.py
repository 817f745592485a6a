"""Guidance by a classifier of noisy images: against closed forms, and from a run of its own to another's samples."""

import functools
import json
import math
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config
from etils import epath
from support import loud
from support.command import TINY, ddpm
from support.mixture import CENTRES, PARTS, SCHED, WIDTH, denoiser, log_p

from ddpm_jax import diffusion, parameterization
from ddpm_jax.config import build, guide, stored_config
from ddpm_jax.evaluation import evaluate
from ddpm_jax.losses import objective
from ddpm_jax.networks import classifier
from ddpm_jax.networks.conditioning import Given
from ddpm_jax.run import record, sampling, state
from ddpm_jax.samplers import guidance, loop, spacing, steps
from ddpm_jax.training import train

X_T = np.linspace(-2.0, 2.0, 9).reshape(9, 1, 1, 1)
T = np.array([1, 1, 5, 5, 20, 20, 40, 50, 50])


def told(label):
    """log p(label | x_t), by Bayes' rule from the densities of the mixture."""

    def log_probability(x_t, t):
        def one(x, t):
            of_label = log_p(x, t, label) + jnp.log(PARTS[label])
            return of_label - log_p(x, t, None)

        return jax.vmap(one)(x_t.ravel(), t)

    return log_probability


@pytest.mark.parametrize("w", [0.0, 1.7])
def test_guided_by_a_classifier_or_without_one_the_score_is_the_same(x64, w):
    """p(x) p(label | x)^(1 + w) either way, where both know the truth. w = 0 is Bayes' rule."""
    x_t, t = jnp.asarray(X_T), jnp.asarray(T)
    by_classifier = jax.jit(guidance.shift_score(1.0 + w, SCHED, denoiser(None), told(2)))(x_t, t)
    free = jax.jit(guidance.classifier_free(w, denoiser(2), denoiser(None)))(x_t, t)
    np.testing.assert_allclose(by_classifier.x_0, free.x_0, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("toward", [guidance.shift_score, guidance.shift_mean])
def test_a_classifier_without_weight_says_nothing(toward):
    x_t, t = jnp.asarray(X_T), jnp.full(9, 20)
    plain = means(denoiser(None), x_t, t)
    found = means(toward(0.0, SCHED, denoiser(None), told(1)), x_t, t)
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@functools.partial(jax.jit, static_argnums=0)
def means(denoise, x_t, t):
    out = denoise(x_t, t)
    return parameterization.reverse(SCHED, parameterization.fixed_large, out, x_t, t, t - 1)


def test_a_step_s_mean_moves_by_its_variance_times_the_gradient(x64):
    """And by eps, as DDIM has it, over sqrt(1 - beta) of that: one law as the steps grow smaller."""
    w, x_t, t = 1.3, jnp.asarray(X_T), jnp.full(9, 20)
    plain, variance = means(denoiser(None), x_t, t)
    gradient = jax.jit(jax.vmap(jax.grad(lambda x: told(2)(x[None], t[:1])[0])))(x_t)
    by_mean, _ = means(guidance.shift_mean(w, SCHED, denoiser(None), told(2)), x_t, t)
    np.testing.assert_allclose(by_mean, plain + w * jnp.exp(variance) * gradient, rtol=1e-9)
    by_score, _ = means(guidance.shift_score(w, SCHED, denoiser(None), told(2)), x_t, t)
    alpha = 1.0 - SCHED.beta[20]
    np.testing.assert_allclose(by_mean - plain, np.sqrt(alpha) * (by_score - plain), atol=1e-9)


@pytest.mark.parametrize(
    "step, toward",
    [
        (steps.ancestral(parameterization.fixed_large), guidance.shift_mean),
        (steps.ddim(0.0), guidance.shift_score),
    ],
)
def test_bayes_rule_draws_the_part_that_was_asked_for(step, toward):
    """From the whole mixture, by what a perfect classifier says at every step."""
    denoise = toward(1.0, SCHED, denoiser(None), told(2))
    program = loop.program(
        SCHED, steps.lift(step), lambda _: denoise, spacing.linear(50, 50), (1, 1, 1)
    )
    drawn = np.asarray(program((), loop.image_keys(jax.random.key(0), jnp.arange(4000))))
    # 50 steps are few, and the ancestral mean's shift is of first order in them.
    assert abs(drawn.mean() - CENTRES[2]) < 0.04
    assert abs(drawn.std() - WIDTH) < 0.03


def a_classifier(**fields):
    return classifier.Classifier(12, (1, 2), 1, (4,), classes=3, **fields)


def test_the_classifier_s_probabilities_sum_to_one_and_a_label_picks_its_own():
    model, x, t = a_classifier(), jnp.ones((3, 8, 8, 1)), jnp.array([0, 5, 9])
    params = jax.jit(model.init)(jax.random.key(0), x, t)
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(params, x, t), -math.log(3.0), atol=1e-4)
    params = jax.tree.map(
        lambda leaf: (
            leaf + 0.1 * np.sin(np.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        ),
        params,
    )
    log_p = apply(params, x, t)
    np.testing.assert_allclose(jnp.exp(log_p).sum(axis=1), 1.0, rtol=1e-5)
    assert np.ptp(log_p, axis=1).min() > 1e-3 and np.ptp(log_p, axis=0).max() > 1e-4
    labels = jnp.array([2, 0, 1])
    np.testing.assert_allclose(
        apply(params, x, t, given=Given(labels=labels)), log_p[jnp.arange(3), labels], rtol=1e-6
    )


def test_classification_is_the_cross_entropy_of_x_t():
    x_0, eps, t = jnp.ones((2, 1, 1, 1)), jnp.full((2, 1, 1, 1), 0.5), jnp.array([3, 40])
    loss = objective.classification()(SCHED, lambda x_t, t: x_t[:, 0, 0, 0] * t, x_0, t, eps)
    x_t = diffusion.q_sample(SCHED, x_0, t, eps)[:, 0, 0, 0]
    np.testing.assert_allclose(loss, -x_t * t, rtol=1e-6)


def of_classifier(digits, directory, **fields):
    config = tiny_config(digits)
    config.model.update(channels=12, classes=10)
    config.diffusion.loss, config.eval.images, config.eval.batch_size = "classification", 360, 60
    config.optimizer.learning_rate = 3e-3
    config.train.update(steps=200, checkpoint_every=200, log_every=100)
    config.update_from_flattened_dict(fields)
    return build.run(config, epath.Path(directory))


@pytest.fixture(scope="module")
def folders(loud_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guided")
    shutil.copytree(loud_folder("classifier"), folder / "classifier")
    shutil.copytree(loud_folder("plain"), folder / "model")
    return folder


def guided(digits, folders, **fields):
    config = loud.config(tiny_config(digits), "plain")
    config.sample.classifier = str(folders / "classifier")
    config.update_from_flattened_dict(fields)
    return guide.open_guide(build.run(config, epath.Path(folders / "model")))


@pytest.mark.slow
def test_a_classifier_learns_and_its_accuracy_is_told_by_noise(digits, tmp_path, capsys):
    """Learning takes its 200 steps: a classifier that learns nothing is at chance."""
    run = of_classifier(digits, tmp_path)
    train.train(run)
    evaluate.evaluate(run)
    record = json.loads((run.directory / "eval" / "200-accuracy-test.json").read_text())
    assert record["t"] == list(range(1, 9)) and record["images"] == 360
    assert record["accuracy"][0] > 0.147  # chance and three standard errors
    assert record["cross_entropy"][0] < math.log(10.0) - 0.1
    assert "test accuracy  " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["ancestral", "ddim"])
def test_samples_are_guided_and_named_after_their_classifier(digits, folders, solver):
    """The chain, whole, beside a trained classifier's gradient: six programs to compile."""

    def images(**fields):
        run = guided(digits, folders, **{"sample.solver": solver} | fields)
        return run, sampling.write_samples(run, *state.read_ema(run))

    run, plain = images(**{"sample.classifier": ""})
    assert "-by-" not in run.sample.chain.name
    run, moved = images(**{"sample.guidance": 1000.0})
    assert re.search("-by-classifier-4-[0-9a-f]{8}-w1000$", run.sample.chain.name)
    assert (np.asarray(moved, int) != plain).mean() > 0.05
    _, third = images(**{"sample.guidance": 1000.0, "sample.label": 3})
    np.testing.assert_array_equal(third[3], moved[3])  # image 3 is of label 3 as it is
    assert (third[4] != moved[4]).any()


@pytest.mark.parametrize(
    "fields, fault",
    [
        ({"sample.classifier": "nowhere"}, "nowhere holds no run"),
        ({"sample.label": 10}, "between 0 and 9"),
        ({"sample.solver": "ode"}, "takes no labels"),
        ({"diffusion.schedule.beta_T": 0.3}, "has diffusion.schedule .*0.2.*; this run has .*0.3"),
        ({"diffusion.schedule.name": "vp"}, "has diffusion.schedule .*linear.*; this run has .*vp"),
    ],
)
def test_a_classifier_of_something_else_is_refused(digits, folders, fields, fault):
    with pytest.raises(ValueError, match=fault):
        guided(digits, folders, **fields)


def test_a_classifier_s_schedule_is_compared_by_its_tables(digits, folders):
    """A number that a schedule does not use makes no other schedule, even in the config file."""
    config = tiny_config(digits)
    config.sample.classifier = str(folders / "classifier")
    with config.unlocked():
        config.diffusion.schedule.sigma_min = 0.01
    run = guide.open_guide(build.run(config, epath.Path(folders / "another_spelling")))
    assert run.sample.chain.guide is not None


@pytest.mark.parametrize("table", diffusion.Schedule._fields)
def test_schedules_that_differ_in_the_last_bit_of_one_table_are_different(table):
    sched = diffusion.linear(8, 0.001, 0.2)._replace(scale=np.ones(9))
    assert guide.equal_schedules(sched, sched._replace(scale=np.ones(9)))
    assert not guide.equal_schedules(sched, sched._replace(scale=None))
    other = getattr(sched, table).copy()
    other[3] = np.nextafter(other[3], 2.0)
    assert not guide.equal_schedules(sched, sched._replace(**{table: other}))


def test_a_model_is_no_classifier(digits, folders):
    with pytest.raises(ValueError, match="model holds no classifier; train one as configs/digits_"):
        guided(digits, folders, **{"sample.classifier": str(folders / "model")})


@pytest.mark.parametrize("field", ["train.label_dropout", "train.sample_every"])
def test_what_a_classifier_has_no_use_for_is_named(digits, tmp_path, field):
    with pytest.raises(ValueError, match=f"{field} is .*; with diffusion.loss classification"):
        of_classifier(digits, tmp_path, **{field: 0.5 if field.endswith("dropout") else 2})


def test_a_run_stored_before_a_field_was_there_is_the_same_run(digits, folders):
    run = build.run(tiny_config(digits), epath.Path(folders / "older"))
    config = {name: dict(s) if isinstance(s, dict) else s for name, s in run.config.items()}
    del config["sample"]["spacing"], config["sample"]["classifier"]
    record.write(run.directory, config, run.model.shape, run.model.levels)
    again = build.run(stored_config.get_config(run.directory), run.directory)
    assert again.config["sample"] == run.config["sample"]


@pytest.mark.slow
def test_a_classifier_s_run_is_for_guiding_others_by_command(digits, tmp_path):
    """From one run's folder to another's samples: what two folders have to say to each other."""
    data, folder = f"--config.data.data_dir={digits}", f"--workdir={tmp_path / 'classifier'}"
    as_classifier = ["--config.diffusion.loss=classification", "--config.model.classes=10"]
    status, out, err = ddpm(*TINY, *as_classifier, "--config.train.sample_every=0", data, folder)
    assert status == 0, err
    assert "test accuracy  " in out and "--config.sample.classifier=" in out
    status, out, err = ddpm(folder, "--mode=preflight")
    assert status == 0 and "compiles for local" in out, err
    status, _, err = ddpm(folder, "--mode=sample")
    assert status == 2 and "holds a classifier; for --mode=sample name a run that draws" in err
    model = f"--workdir={tmp_path / 'model'}"
    status, _, err = ddpm(*TINY, data, model)
    assert status == 0, err
    by = f"--config.sample.classifier={tmp_path / 'classifier'}"
    status, out, err = ddpm(model, "--mode=sample", by, "--config.sample.guidance=2", data)
    assert status == 0, err
    (made,) = (tmp_path / "model" / "samples").glob(
        "4-ancestral-6-by-classifier-4-*-w2-5-seed0.npz"
    )
    target = tmp_path / "guided.npz"
    how = "--mode=export", "--format=npz", f"--target={target}", "--config.sample.guidance=2"
    status, out, err = ddpm(model, *how, by, data)
    assert status == 0, err
    np.testing.assert_array_equal(np.load(target)["arr_0"], np.load(made)["arr_0"])
