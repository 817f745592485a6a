"""The fast solvers on Gaussian data, where the ODE they solve has a closed form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from ddpm_jax import diffusion, parameterization
from ddpm_jax.config import build, sampler
from ddpm_jax.figures import inversion
from ddpm_jax.parameterization import Denoised
from ddpm_jax.samplers import loop, ode_solvers, slerp, spacing
from ddpm_jax.samplers import steps as sampler_steps
from ddpm_jax.samplers.steps import Plan, Solver

FINE = diffusion.linear(100_000, 1e-6, 2e-4)  # times close enough for rounding not to matter
MEAN, VARIANCE = 0.3, 0.25


def gaussian(x_t, t):
    """E[x_0 | x_t] of data that is N(MEAN, VARIANCE)."""
    signal, noise = diffusion.signal(FINE, t), diffusion.sigma(FINE, t) ** 2
    gain = VARIANCE * signal / (VARIANCE * signal**2 + noise)
    return Denoised(MEAN + gain * (x_t - signal * MEAN))


def exact(x_T, t):
    """x_t on the ODE's path from x_T: in x~ the deviations from the mean keep their ratio to q's."""
    level, start = (spacing.noise_level(FINE)[each] for each in (t, FINE.T))
    deviation = x_T / FINE.alpha_bar[-1] ** 0.5 - MEAN
    shrunk = deviation * ((VARIANCE + level**2) / (VARIANCE + start**2)) ** 0.5
    return FINE.alpha_bar[t] ** 0.5 * (MEAN + shrunk)


def error(sampler, times):
    x_T = jnp.array([-1.5, 0.2, 1.0]).reshape(3, 1, 1, 1)
    state = x_T, sampler.init(x_T)
    keys = loop.image_keys(jax.random.key(0), jnp.arange(3))
    path = jnp.asarray(times)
    x, _ = loop.advance(
        FINE, sampler, gaussian, keys, path, state, jnp.array(0), jnp.array(len(times) - 1)
    )
    return float(np.abs(x - exact(x_T, int(times[-1]))).max())


def evenly(steps):
    """From T to T / 20, where uniform steps in t are still fine ones."""
    return np.round(np.linspace(FINE.T, FINE.T // 20, steps + 1)).astype(np.int32)


@pytest.mark.parametrize(
    "sampler, times, order",
    [
        (sampler_steps.lift(sampler_steps.ddim(0.0)), evenly, 1),
        (ode_solvers.dpm_solver(), evenly, 2),
        (ode_solvers.heun(), evenly, 2),
        (ode_solvers.heun(), lambda steps: spacing.karras(FINE, steps)[:-1], 2),
    ],
    ids=["ddim", "dpm_solver", "heun", "heun on its own times"],
)
def test_the_error_falls_with_the_order_of_the_method(sampler, times, order, x64):
    """Twice the steps, 2^order times less of it."""
    errors = [error(sampler, times(steps)) for steps in (40, 80, 160)]
    found = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(found - order).max() < 0.25, (errors, found)


def test_inversion_reaches_the_latent_and_decoding_undoes_it(x64):
    """With an error of first order: twice the steps, half of it."""
    x_0 = jnp.array([-0.4, 0.3, 0.9]).reshape(3, 1, 1, 1)
    level = spacing.noise_level(FINE)[-1]
    spread = ((VARIANCE + level**2) / VARIANCE) ** 0.5
    x_T = FINE.alpha_bar[-1] ** 0.5 * (MEAN + (x_0 - MEAN) * spread)
    keys = loop.image_keys(jax.random.key(0), jnp.arange(3))

    def along(sampler, times, x):
        ends, path = jnp.array([0, len(times) - 1]), jnp.asarray(times)
        return loop.advance(FINE, sampler, gaussian, keys, path, (x, ()), *ends)[0]

    ups, rounds = [], []
    for steps in (200, 400, 800):
        times = spacing.karras(FINE, steps)
        latent = along(ode_solvers.inversion(), times[::-1], x_0)
        back = along(sampler_steps.lift(sampler_steps.ddim(0.0)), times, latent)
        ups.append(float(np.abs(latent - x_T).max()))
        rounds.append(float(np.abs(back - x_0).max()))
    for errors in (ups, rounds):
        found = np.log2(np.array(errors[:-1]) / errors[1:])
        assert np.abs(found - 1.0).max() < 0.3, errors


def test_between_latents_the_norm_is_theirs_and_the_ends_are_they():
    raw = np.random.default_rng(0).standard_normal((2, 3, 4, 4, 2)).astype(np.float32)
    one, other = raw / np.linalg.norm(raw.reshape(2, 3, 32), axis=2)[:, :, None, None, None]
    path = slerp.slerp(one, other, inversion.ALPHAS)
    np.testing.assert_allclose(path[0], one, atol=1e-6)
    np.testing.assert_allclose(path[-1], other, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(path.reshape(-1, 32), axis=1), 1.0, rtol=1e-5)


def test_between_a_latent_and_itself_there_is_only_itself():
    one = np.random.default_rng(0).standard_normal((2, 3, 3, 1)).astype(np.float32)
    for between in slerp.slerp(one, one, inversion.ALPHAS):
        np.testing.assert_allclose(between, one, rtol=1e-5)


def test_ddim_is_the_euler_method_of_the_same_ode(x64):
    x_t, t, s = jnp.full((1, 1, 1, 1), 0.7), jnp.array([60_000]), jnp.array([50_000])
    x = x_t / diffusion.signal(FINE, t)
    level = spacing.noise_level(FINE)
    slope = (x - gaussian(x_t, t).x_0) / level[60_000]
    euler = diffusion.signal(FINE, s) * (x + (level[50_000] - level[60_000]) * slope)
    theirs = sampler_steps.ddim(0.0)(FINE, x_t, gaussian(x_t, t), t, s, jnp.zeros_like(x_t))
    np.testing.assert_allclose(theirs, euler, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 10, 35, 500, 999, 1000])
def test_karras_times_fall_from_T_to_0_each_once(steps):
    sched = diffusion.linear(1000, 1e-4, 0.02)
    times = spacing.karras(sched, steps)
    assert times[0] == 1000 and times[-1] == 0 and len(times) == steps + 1
    assert np.all(np.diff(times) < 0) and (steps < 2 or times[-2] == 1)


def test_karras_times_are_of_the_papers_noise_levels():
    """Eq. 5 with rho = 7: in sigma~^(1/7) they are evenly spaced, to the grid of whole t."""
    levels = spacing.noise_level(FINE)[spacing.karras(FINE, 18)[:-1]] ** (1 / 7)
    np.testing.assert_allclose(np.diff(levels), np.diff(levels).mean(), rtol=0.01)


@pytest.mark.parametrize("solver", ["ancestral", "dpm_solver", "heun"])
def test_only_ddim_has_an_eta(solver):
    fields = parameterization.eps, parameterization.fixed_small, "sample"
    chain = partial(sampler.chain, FINE, *fields)
    with pytest.raises(ValueError, match=f"sample.eta is 0.5, but {solver} has none"):
        chain(solver, 10, 0.5)
    assert chain(solver, 10, 0.0).name == f"{solver}-10"
    assert chain("ddim", 10, 0.5).name == "ddim-10-eta0.5"


def test_a_spacing_is_for_solvers_that_have_none_of_their_own():
    fields = parameterization.eps, parameterization.fixed_small, "sample"
    chain = partial(sampler.chain, diffusion.linear(100, 1e-3, 0.2), *fields)
    quadratic = chain("ddim", 10, 0.0, "quadratic")
    assert quadratic.name == "ddim-10-eta0-quadratic"
    np.testing.assert_array_equal(quadratic.times, [100, 81, 64, 49, 36, 25, 16, 9, 4, 1, 0])
    with pytest.raises(
        ValueError, match="sample.spacing is quadratic, but heun has its own spacing"
    ):
        chain("heun", 10, 0.0, "quadratic")
    with pytest.raises(ValueError, match="did you mean quadratic"):
        chain("ddim", 10, 0.0, "quadratc")


def test_a_solver_is_called_with_the_options_that_it_names_and_no_others(
    tiny, tmp_path, monkeypatch
):
    calls = []

    def plan(sched, steps, *, eta, snr):
        calls.append({"steps": steps, "eta": eta, "snr": snr})
        return Plan(ode_solvers.heun(), np.array([sched.T, 3, 0]), "mine")

    monkeypatch.setitem(sampler.SOLVERS, "mine", Solver(plan))
    tiny.sample.update(solver="mine", steps=5, eta=0.25)
    tiny.sample.langevin.snr = 0.3
    chain = build.run(tiny, epath.Path(tmp_path)).sample.chain
    assert calls == [{"steps": 5, "eta": 0.25, "snr": 0.3}]
    assert (chain.name, list(chain.times)) == ("mine", [8, 3, 0])
    tiny.sample.spacing = "quadratic"
    with pytest.raises(ValueError, match="mine has its own spacing"):
        build.run(tiny, epath.Path(tmp_path))


def test_whether_a_solver_takes_labels_is_its_entry_s_to_say(tiny, tmp_path, monkeypatch):
    """No name decides it."""
    tiny.model.classes = 10
    for name, takes_labels in {"ode": True, "heun": False}.items():
        solver = sampler.SOLVERS[name]._replace(takes_labels=takes_labels)
        monkeypatch.setitem(sampler.SOLVERS, name, solver)
    tiny.sample.solver = "ode"
    assert build.run(tiny, epath.Path(tmp_path)).sample.chain.takes_labels
    tiny.sample.solver = "heun"
    with pytest.raises(ValueError, match="solves image by image and takes no labels"):
        build.run(tiny, epath.Path(tmp_path))


def test_an_eta_out_of_range_is_named_with_its_section(tiny, tmp_path):
    tiny.train.grid.update(solver="ddim", eta=1.5)
    with pytest.raises(ValueError, match="train.grid.eta is 1.5; it must lie between 0 and 1"):
        build.run(tiny, epath.Path(tmp_path))
