"""Every config of configs/ builds, says what the paper says, and refuses what is wrong."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import load
from etils import epath

from ddpm_jax import diffusion, parameterization, sde
from ddpm_jax.config import build, model, stored_config
from ddpm_jax.networks.conditioning import Given
from ddpm_jax.run import model as models
from ddpm_jax.run import record

ROWS = {
    "mu-vlb-learned": ("x_prev", True),
    "mu-vlb-fixed": ("x_prev", False),
    "mu-mse": ("x_prev", False),
    "eps-vlb-learned": ("eps", True),
    "eps-vlb-fixed": ("eps", False),
    "eps-simple": ("eps", False),
}


def built(config, tmp_path, shape=(32, 32, 3), levels=256):
    """As from a run's own record of its images: no data set is needed."""
    directory = epath.Path(tmp_path)
    record.write(directory, config.to_dict(), shape, levels)
    return build.run(config, directory)


def parameters(run):
    tree = jax.eval_shape(lambda: models.initial(run.model, jax.random.key(0)))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_cifar10_is_the_paper_s_run(tmp_path):
    config = load("cifar10")
    run = built(config, tmp_path)
    assert parameters(run) == 35_746_307
    np.testing.assert_array_equal(run.model.sched.beta[1:], np.linspace(1e-4, 0.02, 1000))
    paper = {"batch_size": 128, "steps": 800_000, "clip": 1.0}
    assert {name: config.train[name] for name in paper} == paper
    recipe = {"learning_rate": 2e-4, "warmup": 5000, "ema_decay": 0.9999, "b1": 0.9, "b2": 0.999}
    assert {name: config.optimizer[name] for name in recipe} == recipe
    assert config.data.flip and config.model.dropout == 0.1
    assert run.model.variance is parameterization.fixed_large
    assert len(run.sample.chain.times) == 1001


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_table_2_is_a_config_that_trains(row, tmp_path):
    """Each compiles a network and its gradient."""
    output, is_learned = ROWS[row]
    config = load("ablation", row)
    run = built(config, tmp_path)
    assert run.model.parameterization is getattr(parameterization, output)
    assert parameters(run) == (35_749_766 if is_learned else 35_746_307)

    small = {"channels": 4, "multipliers": (1, 2), "blocks": 1}
    config.model.update(small)
    run = build.run(config, epath.Path(tmp_path), image_kind=((32, 32, 3), 256))
    x_0 = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3), minval=-1.0)
    t, eps = np.array([1, 700]), jax.random.normal(jax.random.key(1), x_0.shape)

    def loss(params):
        network = models.network(run.model, params, jax.random.key(2))
        return run.model.objective(run.model.sched, network, x_0, jax.numpy.asarray(t), eps).mean()

    params = jax.jit(lambda: models.initial(run.model, jax.random.key(0)))()
    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert np.isfinite(value)
    assert all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))
    last = np.abs(grads["conv_out"]["kernel"]).max(axis=(0, 1, 2))
    assert (last > 0).all()  # every output channel is trained, a variance's too


def test_a_row_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="eps-simple"):
        load("ablation", "eps-simpel")


@pytest.mark.parametrize(
    "field, value, fault",
    [
        ("train.batch_size", 12, "8 devices cannot share evenly"),
        ("train.batch_size", 0, "at least 1"),
        ("train.clip_groups", 3, "does not divide"),
        ("train.clip", 0.0, "above 0"),
        ("train.log_every", 0, "at least 1"),
        ("train.keep_best", "fid", "train.keep_best"),
        ("parallel.devices", 9, "has 8"),
        ("parallel.params", "fspd", "must be replicated or fsdp"),
        ("parallel.accumulation", 0, "at least 1"),
        ("parallel.accumulation", 3, "does not divide the 16 images"),
        ("parallel.remat", (8, 7), r"heights are \[8\]"),
        ("model.multipliers", (1, 2, 2, 2, 2), "cannot be halved 4 times"),
        ("model.multipliers", (), "model.multipliers"),
        ("model.dropout", 1.0, "model.dropout"),
        ("model.dtype", "float33", "did you mean float32"),
        ("diffusion.schedule.name", "cosin", "diffusion.schedule.name"),
        ("diffusion.schedule.beta_T", 1.5, "between 0 and 1"),
        ("diffusion.output", "epsilon", "diffusion.output"),
        ("diffusion.loss", "huber", "diffusion.loss"),
        ("diffusion.variance", "learned", "does not train a learned variance"),
        ("diffusion.variance", "learned_range", "use hybrid or vlb"),
        ("diffusion.loss", "hybrid", "fixed_large is fixed; use learned_range"),
        ("diffusion.timesteps", "importanse", "did you mean importance"),
        (
            "diffusion.timesteps",
            {"timesteps": "continuous", "loss": "vlb"},
            "is undefined; use eps",
        ),
        ("diffusion.timesteps", {"timesteps": "continuous", "output": "x_prev"}, "undefined"),
        ("diffusion.loss", {"loss": "likelihood", "output": "x_prev"}, "likelihood needs x_0"),
        ("model.classes", -1, "model.classes is -1"),
        ("sample.guidance", 2.0, "takes no labels; train one with model.classes"),
        ("sample.guidance", -1.5, "must be -1 or more"),
        ("sample.guidance", float("nan"), "must be -1 or more"),
        ("sample.guidance", float("inf"), "must be -1 or more"),
        ("sample.label", 3, "sample.label is set, but this network takes no labels"),
        ("train.label_dropout", 0.1, "train.label_dropout is set, but this network takes no"),
        ("train.label_dropout", 1.0, "at least 0 and below 1"),
        ("optimizer.b2", 1.0, "optimizer.b2"),
        ("sample.solver", "ddmi", "did you mean ddim"),
        ("sample.steps", 9, "between 1 and T = 8"),
        ("sample.langevin.snr", 0.0, "sample.langevin.snr is 0.0"),
        ("sample.langevin.step_size", float("nan"), "sample.langevin.step_size is nan"),
        ("sample.langevin.corrections", -1, "at least 0"),
        ("sample.langevin.updates", 0, "at least 1"),
        ("sample.batch_size", 4, "sample.batch_size is 4"),
        ("eval.steps", 1, "between 2 and T = 8"),
        ("eval.images", -1, "eval.images is -1"),
        ("eval.quality.samples", 3, "must be 0, or 4 or more"),
        ("eval.quality.space", "inceptoin", "did you mean inception"),
        ("seed", -1, "seed is -1"),
        ("train.grid.count", 0, "train.grid.count"),
    ],
)
def test_a_wrong_number_is_named_with_its_field(tiny, tmp_path, field, value, fault):
    tiny.parallel.devices = 8
    if isinstance(value, dict):  # of several fields of a section
        tiny[field.split(".")[0]].update(value)
    else:
        tiny.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=fault):
        build.run(tiny, epath.Path(tmp_path))


def test_the_improved_config_is_that_paper_s_recipe(tmp_path):
    run = built(load("cifar10_improved"), tmp_path)
    assert run.model.sched.T == 4000 and run.model.sched.beta[-1] == 0.999
    assert run.model.variance is parameterization.learned_range
    assert run.model.network.out_channels == 6
    config = load("cifar10_improved", "vlb")
    assert (config.diffusion.loss, config.diffusion.timesteps) == ("vlb", "importance")
    built(config, tmp_path / "vlb")
    with pytest.raises(ValueError, match="no row 'vbl'"):
        load("cifar10_improved", "vbl")


@pytest.mark.parametrize(
    "fields, fault",
    [
        ({"sample.label": 10}, "between 0 and 9"),
        ({"sample.label": -2}, "between 0 and 9"),
        ({"sample.solver": "ode"}, "sample.solver is ode, which solves image by image"),
        ({"train.grid.solver": "ode"}, "train.grid.solver is ode"),
        ({"sample.guidance": 1.0}, "label_dropout 0, so it has no unconditional model"),
    ],
)
def test_labels_that_are_none_and_guidance_untrained_are_refused(tiny, tmp_path, fields, fault):
    tiny.model.classes = 10
    tiny.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=fault):
        build.run(tiny, epath.Path(tmp_path))


@pytest.mark.parametrize("name", ["digits_conditional", "cifar10_conditional"])
def test_the_conditional_configs_have_a_label_in_ten_hidden(name, tmp_path):
    shape, levels = ((8, 8, 1), 17) if name.startswith("digits") else ((32, 32, 3), 256)
    run = built(load(name), tmp_path, shape, levels)
    assert (run.model.network.classes, run.train.label_dropout) == (10, 0.1)
    assert parameters(run) - parameters(
        built(load(name.split("_")[0]), tmp_path, shape, levels)
    ) == (11 * 4 * run.model.network.channels)


def test_a_variance_range_may_take_few_steps(tiny, tmp_path):
    tiny.diffusion.update(variance="learned_range", loss="hybrid")
    tiny.sample.steps = 4
    assert len(build.run(tiny, epath.Path(tmp_path)).sample.chain.times) == 5


def test_steps_a_learned_variance_is_not_defined_on_are_refused(tiny, tmp_path):
    tiny.diffusion.update(variance="learned", loss="vlb")
    tiny.sample.steps = 4
    with pytest.raises(ValueError, match="own variance is for single steps"):
        build.run(tiny, epath.Path(tmp_path))
    tiny.sample.solver = "ddim"  # it does not use the variance
    build.run(tiny, epath.Path(tmp_path))
    tiny.diffusion.update(variance="fixed_large", output="x_prev")
    with pytest.raises(ValueError, match="own mean is for single steps"):
        build.run(tiny, epath.Path(tmp_path))


SCORE = "euler_maruyama", "predictor_corrector", "annealed_langevin", "ode"


def test_solvers_that_go_by_the_score_are_refused_a_network_of_its_own_mean(tiny, tmp_path):
    for solver in SCORE:
        tiny.sample.solver = solver
        tiny.diffusion.output = "eps"
        build.run(tiny, epath.Path(tmp_path))
        tiny.diffusion.output = "x_prev"
        with pytest.raises(ValueError, match=f"sample.solver {solver} needs the score"):
            build.run(tiny, epath.Path(tmp_path))


def test_what_samples_are_made_of_is_in_their_names(tiny, tmp_path):
    tiny.sample.langevin.update(corrections=2, snr=0.1, updates=7, step_size=0.3)
    names = []
    for tiny.sample.solver in SCORE:
        names.append(build.run(tiny, epath.Path(tmp_path)).sample.chain.name)
    updates = "predictor_corrector-8-2x0.1", "annealed_langevin-8-7x0.3"
    assert names == ["euler_maruyama-8", *updates, "ode"]


def test_the_grids_of_training_have_the_sections_langevin_too(tiny, tmp_path):
    tiny.sample.langevin.corrections = 3
    tiny.train.grid.solver = "predictor_corrector"
    assert len(build.run(tiny, epath.Path(tmp_path)).train.grid.chain.times) == 1 + 8 + 3 * 7


@pytest.mark.parametrize("row", ["vp", "sub_vp", "ve", "ncsn"])
def test_every_process_is_a_config(row, tmp_path):
    run = built(load("digits_sde", row), tmp_path, (8, 8, 1), 17)
    levels = np.sqrt(1.0 / run.model.sched.alpha_bar - 1.0)
    if row in ("ve", "ncsn"):
        steps, top = (100, 20.0) if row == "ve" else (10, 2.0)
        np.testing.assert_allclose(levels[1:], np.geomspace(0.02, top, steps), rtol=1e-6)
    if row == "ncsn":
        assert len(run.sample.chain.times) == 10 * 100 + 2
    else:
        run = built(load("cifar10_sde", row), tmp_path / "cifar10")
        assert run.model.sched.T == 1000 and len(run.sample.chain.times) == 2000


def test_sigmas_that_do_not_rise_are_named(tiny, tmp_path):
    tiny.diffusion.schedule = {"name": "ve", "T": 8, "sigma_min": 2.0, "sigma_max": 1.0}
    with pytest.raises(ValueError, match="diffusion.schedule.sigma_min is 2.0 and sigma_max 1.0"):
        build.run(tiny, epath.Path(tmp_path))


@pytest.mark.parametrize("name", ["quadratic", "constant", "cosine", "vp", "sub_vp"])
def test_every_schedule_can_be_chosen_by_name_alone(tiny, tmp_path, name):
    tiny.diffusion.schedule.name = name
    betas = build.run(tiny, epath.Path(tmp_path)).model.sched.beta
    assert (betas != diffusion.linear(8, 1e-3, 0.2).beta).any()


def test_a_loss_is_called_with_the_options_that_it_names_and_no_others(tiny, tmp_path, monkeypatch):
    calls = []

    def mine(levels, log_likelihood, variance):
        calls.append((levels, log_likelihood, variance))
        return lambda sched, network, x_0, t, eps: network(x_0, t)

    monkeypatch.setitem(model.LOSSES, "mine", mine)
    tiny.diffusion.update(loss="mine", log_cdf="tanh", variance="fixed_small")
    objective = build.run(tiny, epath.Path(tmp_path)).model.objective
    expected = 17, diffusion.released_log_likelihood, parameterization.fixed_small
    assert calls == [expected]
    assert objective(None, lambda x, t: x + t, 2, 3, None) == 5


@pytest.mark.parametrize(
    "own, sched",
    [
        ({"name": "cosine", "T": 8}, diffusion.cosine(8)),
        ({"name": "constant", "T": 8, "beta_T": 0.3}, diffusion.constant(8, 0.3)),
        ({"name": "vp", "T": 8, "beta_1": 0.1, "beta_T": 0.3}, sde.vp(8, 0.1, 0.3)),
        ({"name": "ve", "T": 8, "sigma_min": 0.1, "sigma_max": 9.0}, sde.ve(8, 0.1, 9.0)),
    ],
)
def test_a_schedule_needs_its_own_numbers_only_and_ignores_those_of_others(
    tiny, tmp_path, own, sched
):
    others = {"beta_1": 0.01, "beta_T": 0.2, "sigma_min": 0.5, "sigma_max": 2.0}

    def build_with(section):
        tiny.diffusion.schedule = section
        run = build.run(tiny, epath.Path(tmp_path))
        assert (
            run.config["diffusion"]["schedule"] == section
        )  # stored as it is written: hashes cover it
        return run.model.sched

    for section in (own, others | own):
        np.testing.assert_array_equal(build_with(section).alpha_bar, sched.alpha_bar)
    with pytest.raises(ValueError, match="diffusion.schedule: .*unexpected .*'beta_2'"):
        build_with(own | {"beta_2": 0.1})
    for field in others.keys() | {"T"}:
        with pytest.raises(ValueError, match=f"diffusion.schedule.{field} is '0.1'; it must be"):
            build_with(others | own | {field: "0.1"})
    for field in own.keys() - {"name"}:
        with pytest.raises(ValueError, match=f"diffusion.schedule: missing .*'{field}'"):
            build_with({name: value for name, value in own.items() if name != field})


FED = []


class Toy(nn.Module):
    """A network of one number, which records what it is fed."""

    start: float
    out_channels: int
    classes: int = 0

    @nn.compact
    def __call__(self, x, time, train, given):
        FED.append((time, train, given))
        weight = self.param("weight", nn.initializers.constant(self.start), ())
        labels = 0.0 if given.labels is None else given.labels[:, None, None, None]
        return weight + labels + jnp.zeros((*x.shape[:-1], self.out_channels))


@pytest.fixture
def toy(monkeypatch):
    def build_toy(shape, out_channels, layout, *, start: float, classes: int = 0):
        return Toy(start=start, out_channels=out_channels, classes=classes)

    FED.clear()
    monkeypatch.setitem(model.NETWORKS, "toy", model.Backbone(build_toy))


def build_toy_run(config, folder, **fields):
    config.model = {"name": "toy", "start": 3.0} | fields
    return build.run(config, epath.Path(folder))


def test_the_network_is_fed_t_minus_one_and_the_denoiser_clips(tiny, tmp_path, toy):
    tiny.diffusion.output = "x_0"
    run = build_toy_run(tiny, tmp_path)
    out = models.denoiser(run.model, {"weight": 3.0})(jnp.zeros((2, 8, 8, 1)), jnp.array([1, 8]))
    ((time, train, given),) = FED
    np.testing.assert_array_equal(time, [0, 7])
    assert not train and given == Given()
    np.testing.assert_array_equal(out.x_0, jnp.ones_like(out.x_0))


def test_the_parameterization_decides_what_the_network_is_fed_for_t(tiny, tmp_path, toy):
    run, t = build_toy_run(tiny, tmp_path), jnp.array([1, 8])
    by_noise = parameterization.eps._replace(time=lambda sched, t: 0.25 * jnp.log(sched.T * t))
    network = models.network(run.model._replace(parameterization=by_noise), {"weight": 3.0})
    network(jnp.zeros((2, 8, 8, 1)), t)
    np.testing.assert_allclose(FED[0][0], 0.25 * np.log(8 * np.array([1, 8])), rtol=1e-6)


def test_another_network_is_an_entry_of_a_table_with_fields_of_its_own(tiny, tmp_path, toy):
    """It trains, is conditioned and learns a variance as the U-Net does."""
    tiny.diffusion.update(variance="learned", loss="vlb")
    run = build_toy_run(tiny, tmp_path, classes=10)
    params = models.initial(run.model, jax.random.key(0))
    assert float(params["weight"]) == 3.0
    network = models.network(run.model, params, jax.random.key(1), jnp.array([0, 4]))
    output = network(jnp.zeros((2, 8, 8, 1)), jnp.array([1, 8]))
    np.testing.assert_array_equal(output[:, 0, 0], [[3.0, 3.0], [7.0, 7.0]])
    assert FED[-1][1]  # a key for dropout is training
    with pytest.raises(ValueError, match="config section model: .*unexpected .*'channels'"):
        build_toy_run(tiny, tmp_path, channels=4)
    with pytest.raises(ValueError, match="model.start is '3'; it must be float"):
        build_toy_run(tiny, tmp_path, start="3")


@pytest.mark.parametrize(
    "name, loss, fault",
    [
        ("unte", "simple", "did you mean unet"),
        ("classifier", "simple", "this diffusion.loss trains a network that predicts images"),
        ("unet", "classification", "this diffusion.loss trains a classifier"),
    ],
)
def test_a_network_that_the_loss_does_not_train_is_refused(tiny, tmp_path, name, loss, fault):
    tiny.model = tiny.model.to_dict() | {"name": name, "classes": 10}
    tiny.diffusion.loss = loss
    with pytest.raises(ValueError, match=fault):
        build.run(tiny, epath.Path(tmp_path))


def test_a_missing_section_is_named(tiny, tmp_path):
    with tiny.unlocked():
        del tiny.parallel
    with pytest.raises(ValueError, match="no section parallel"):
        build.run(tiny, epath.Path(tmp_path))


def test_a_stored_config_of_a_folder_without_a_run_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path.name} holds no run"):
        stored_config.get_config(tmp_path)


def test_a_field_too_many_or_too_few_in_a_config_file_is_named(tiny, tmp_path):
    with tiny.unlocked():
        del tiny.train.clip
    with pytest.raises(ValueError, match="config section train: .*clip"):
        build.run(tiny, epath.Path(tmp_path))


PAPER = {  # steps, flips, parameters
    "celebahq256": (500_000, True, 113_673_219),
    "lsun_church256": (1_200_000, True, 113_673_219),
    "lsun_bedroom256": (2_400_000, False, 113_673_219),
    "lsun_bedroom256_large": (1_150_000, False, 255_677_955),
    "lsun_cat256": (1_800_000, True, 113_673_219),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_256x256_configs_are_the_paper_s_runs(name, tmp_path):
    steps, flips, count = PAPER[name]
    config = load(name)
    run = built(config, tmp_path, (256, 256, 3))
    assert parameters(run) == count
    assert config.train.steps == steps and config.data.flip == flips
    assert config.train.batch_size == 64 and config.train.clip == 1.0
    recipe = {"learning_rate": 2e-5, "warmup": 5000, "ema_decay": 0.9999}
    assert {field: config.optimizer[field] for field in recipe} == recipe
    assert config.model.dropout == 0.0 and config.data.image_size == 256
    assert run.model.variance is parameterization.fixed_small
    np.testing.assert_array_equal(run.model.sched.beta[1:], np.linspace(1e-4, 0.02, 1000))
