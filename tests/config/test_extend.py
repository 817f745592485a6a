"""docs/extend.md: its modules are written as the page names them, hold their theorems, and are run as it says."""

import importlib
import inspect
import re
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from etils import epath
from support.command import TINY, ddpm

from ddpm_jax import diffusion, parameterization
from ddpm_jax.config import build
from ddpm_jax.diffusion import discretized_log_likelihood
from ddpm_jax.evaluation import follow, metric_table
from ddpm_jax.losses import objective
from ddpm_jax.run import model as models
from ddpm_jax.weights import exporting

PAGE = (ROOT / "docs" / "extend.md").read_text()
MODULES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [
    shlex.split(line.split("ddpm_jax.main", 1)[1])
    for line in PAGE.splitlines()
    if line.startswith("python -m ddpm_jax.main")
]
OWN = {
    "diffusion.loss": "my_losses:min_snr",
    "diffusion.output": "my_outputs:v",
    "diffusion.schedule.name": "my_schedules:sigmoid",
    "sample.solver": "my_samplers:renoise",
    "train.grid.solver": "my_samplers:renoise",
    "data.name": "my_data:squares",
    "eval.quality.metrics": ("my_metrics:MEAN_DISTANCE",),
}
SCHED = diffusion.linear(50, 1e-3, 0.2)


@pytest.fixture
def page(code):
    """The folder of the page's modules."""
    for name, text in MODULES.items():
        (code / name).write_text(text)
    return code


def of(name):
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)


def built(config, tmp_path, **fields):
    config.update_from_flattened_dict({name.replace("__", "."): fields[name] for name in fields})
    return build.run(config, epath.Path(tmp_path / "run"))


def test_every_block_of_python_is_a_module_and_every_kind_has_one():
    assert PAGE.count("```python") == len(MODULES) == 8
    assert {name.split(":")[0] + ".py" for name in OWN.values() if isinstance(name, str)} < set(
        MODULES
    )
    assert len(COMMANDS) == PAGE.count("ddpm_jax.main") == 6


@pytest.mark.parametrize("t", [[1, 2, 25, 50], [0.5, 2.25, 24.75, 49.5]])
def test_min_snr_is_the_squared_error_of_eps_weighted_by_min_snr_over_snr(page, t):
    """Hang et al. 2023, Sec. 3.4; and that of x_0 weighted by min(SNR, gamma). gamma is 5."""
    x_0, eps, output = np.random.default_rng(0).standard_normal((3, 4, 2, 2, 1), np.float32)
    kinds = parameterization.eps, parameterization.x_0
    makes = objective.simple, of("my_losses:min_snr")

    @jax.jit
    def losses(x_0, eps, output, t):
        snr = (diffusion.signal(SCHED, t) / diffusion.sigma(SCHED, t)) ** 2
        args = SCHED, lambda x, t: output, x_0, t, eps
        return snr[:, 0, 0, 0], [[make(kind)(*args) for kind in kinds] for make in makes]

    snr, (simple, own) = losses(x_0, eps, output, np.array(t))
    assert (snr > 5.0).any() and (snr < 5.0).any()
    weights = np.minimum(snr, 5.0) / snr, np.minimum(snr, 5.0)
    np.testing.assert_allclose(own, np.multiply(weights, simple), rtol=2e-4)


def test_v_is_read_back_as_the_x_0_that_it_is_the_target_of(page):
    v = of("my_outputs:v")
    x_0, eps = np.random.default_rng(0).standard_normal((2, 3, 2, 2, 1), np.float32)

    @jax.jit
    def there_and_back(x_0, eps, t):
        x_t = diffusion.q_sample(SCHED, x_0, t, eps)
        return v.read(SCHED, v.target(SCHED, x_0, x_t, eps, t), x_t, t).x_0

    read = there_and_back(x_0, eps, np.array([1, 20, 50]))
    np.testing.assert_allclose(read, x_0, atol=1e-6)


def test_the_sigmoid_schedule_falls_alike_from_both_ends(page):
    alpha_bar = of("my_schedules:sigmoid")(50).alpha_bar
    np.testing.assert_allclose(alpha_bar[1:-1] + alpha_bar[-2:0:-1], 1.0, atol=1e-12)


def test_every_kind_of_user_code_comes_to_where_it_is_used(page, tiny, tmp_path, unchecked):
    tiny.eval.quality.samples = 8
    tiny.model = {"name": "my_networks:convolutions", "width": 8, "depth": 1}
    run = built(tiny, tmp_path, **OWN, eval__best="mean_distance")
    assert run.model.parameterization is of("my_outputs:v")
    np.testing.assert_array_equal(run.model.sched.beta, of("my_schedules:sigmoid")(8).beta)
    assert "min_snr" in run.model.objective.__qualname__
    chain, grid = run.sample.chain, run.train.grid.chain
    assert (
        re.fullmatch(r"my_samplers\.renoise-[0-9a-f]{8}-8", chain.name) and grid.name == chain.name
    )
    lifted = inspect.getclosurevars(inspect.unwrap(chain.sampler.step)).nonlocals["step"]
    assert lifted is of("my_samplers:renoise")
    assert run.model.shape == (8, 8, 1) and run.data.open("test").classes == 2
    assert metric_table.metrics(run)[-1] is of("my_metrics:MEAN_DISTANCE")
    follow.check(run)
    params = jax.eval_shape(lambda: models.initial(run.model, jax.random.key(0)))
    x, t = jnp.zeros((2, 8, 8, 1)), jnp.ones(2, jnp.int32)
    out = jax.eval_shape(lambda params: models.denoiser(run.model, params)(x, t), params)
    assert out.x_0.shape == x.shape
    with pytest.raises(ValueError, match="model.name is my_networks:.*, which diffusers does not"):
        exporting.check_export(run, str(tmp_path / "exported"), "diffusers")


def test_the_fields_of_a_network_are_its_own_whatever_they_are_called(
    page, tiny, tmp_path, unchecked
):
    (page / "own_nets.py").write_text(
        "from my_networks import Convolutions\n"
        "def build(shape, out_channels, layout, *, multipliers, attention):\n"
        "    return Convolutions(out_channels, attention[0], len(multipliers))\n"
    )
    tiny.model = {"name": "own_nets:build", "multipliers": (1, 2), "attention": (3,)}
    network = built(tiny, tmp_path).model.network
    assert (network.width, network.depth) == (3, 2)


def test_variances_timesteps_and_likelihoods_have_names_too(code, tiny, tmp_path, unchecked):
    (code / "own_rest.py").write_text(
        "from ddpm_jax.diffusion import discretized_log_likelihood as log_cdf\n"
        "from ddpm_jax.losses.timesteps import continuous as timesteps\n"
        "def variance(sched, denoised, t, s): return denoised.variance\n"
        "variance.learned = True\n"
        "def loss(variance, log_likelihood): return lambda *args: (variance, log_likelihood)\n"
    )
    names = {
        f"diffusion__{name}": f"own_rest:{name}"
        for name in ("variance", "timesteps", "log_cdf", "loss")
    }
    run = built(tiny, tmp_path, **names)
    expected = run.model.variance, discretized_log_likelihood
    assert run.model.objective() == expected and run.model.network.out_channels == 2
    t, _ = jax.eval_shape(lambda: run.model.timesteps.draw((), jax.random.key(0), (4,)))
    assert t.dtype == jnp.float32


WRONG = """
number = 3.0
def nothing(*args, **fields): return None
def empty(split): return None
def needs(parameterization, gamma): return print
def plan(sched, steps, *, rho): pass
def loss(): return print
def network(shape, out_channels, layout, **fields):
    import flax.linen
    return flax.linen.Dense(1)
from ddpm_jax.metrics.metric import Metric
spaced = Metric("two words", print, True)
"""


@pytest.mark.parametrize(
    "field, name, message",
    [
        (
            "diffusion.loss",
            "number",
            "diffusion.loss own_wrong:number is 3.0; it must be a function",
        ),
        ("diffusion.loss", "nothing", "returned None; it must be a function"),
        ("diffusion.loss", "needs", "diffusion.loss: missing a required .*'gamma'; by name it may"),
        ("diffusion.loss", "lost", "own_wrong has no lost; did you mean loss"),
        ("diffusion.output", "number", "is 3.0; it must be of type Parameterization"),
        ("diffusion.schedule.name", "nothing", "returned None; it must be of type Schedule"),
        ("diffusion.timesteps", "empty", "returned None; it must be of type Timesteps"),
        ("model.name", "nothing", "returned None; it must be of type Module"),
        (
            "model.name",
            "network",
            "returned a Dense without the field remat, classes; it must have",
        ),
        ("sample.solver", "number", "sample.solver is own_wrong:number: a sampler must be a Step"),
        (
            "train.grid.solver",
            "plan",
            "train.grid.solver own_wrong:plan: .*'rho'; by name it may take",
        ),
        ("eval.quality.metrics", "number", "is 3.0; it must be of type Metric"),
        ("eval.quality.metrics", "spaced", "the name 'two words'; it must be of letters"),
        (
            "data.name",
            "number",
            "data.name own_wrong:number is 3.0; it must be a function of a split",
        ),
        ("data.name", "empty", "has dtype object; images must be uint8"),
    ],
)
def test_user_code_of_another_kind_is_refused_by_name(
    code, tiny, tmp_path, unchecked, field, name, message
):
    (code / "own_wrong.py").write_text(WRONG)
    value = f"own_wrong:{name}"
    if field == "model.name":
        tiny.model = tiny.model.to_dict() | {"name": value}
    else:
        value = (value,) if field.endswith("metrics") else value
        tiny.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        build.run(tiny, epath.Path(tmp_path / "run"))


def test_a_loss_is_for_whole_t_unless_it_says_otherwise(page, tiny, tmp_path, unchecked):
    fields = {"diffusion__timesteps": "continuous", "diffusion__loss": OWN["diffusion.loss"]}
    built(tiny, tmp_path, **fields)
    del of("my_losses:min_snr").continuous
    with pytest.raises(ValueError, match="output eps with loss my_losses:min_snr is undefined"):
        built(tiny, tmp_path, **fields)


@pytest.mark.slow
def test_the_commands_of_the_page_do_what_it_says(page, digits, tmp_path, monkeypatch):
    """Each compiles its own network or sampler: training, sampling and evaluation by the command."""
    for args in COMMANDS:
        trains = any(arg.startswith("--config=") for arg in args)
        own = "--config=my_config.py" in args
        tiny = [arg for arg in TINY[1:] if not (own and ".model." in arg)] if trains else []
        tiny += [f"--config.data.data_dir={digits}"]
        quality = ["--config.eval.quality.samples=8", "--config.eval.quality.space=pixels"]
        tiny += quality if "--mode=evaluate" in args else []
        status, out, err = ddpm(*args, *tiny, cwd=page)
        assert status == 0, (args, err)
        if "--mode=evaluate" in args:
            assert "mean_distance_pixels_8_train" in out and "mean_distance_pixels_8_test" in out
    for pattern in ("ancestral-6-5", "my_samplers.renoise-[0-9a-f]*-5-5"):
        assert (
            len(list((page / "runs" / "min_snr" / "samples").glob(f"4-{pattern}-seed0.npz"))) == 1
        )
    assert (page / "runs" / "squares" / "config.json").exists()
    (page / "my_losses.py").write_text(MODULES["my_losses.py"] + "\n")
    args = "--workdir=runs/min_snr", "--mode=export", "--format=npz", "--target=samples.npz"
    status, _, err = ddpm(*args, cwd=page)
    assert status == 2 and "my_losses.py has changed since the run was trained with it" in err
    assert ddpm(*args, "--trust", cwd=page)[0] == 0 and (page / "samples.npz").exists()
