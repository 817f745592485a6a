"""Every sampler is judged by the same theorems; none needs a trained network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import diffusion, parameterization
from ddpm_jax.parameterization import Denoised
from ddpm_jax.samplers import loop, ode_solvers, sde_solvers, spacing, steps

SCHED = diffusion.linear(1000, 1e-4, 0.02)
SAMPLERS = {
    "ancestral-small": steps.ancestral(parameterization.fixed_small),
    "ancestral-large": steps.ancestral(parameterization.fixed_large),
    "ddim-0": steps.ddim(0.0),
    "ddim-0.5": steps.ddim(0.5),
    "ddim-1": steps.ddim(1.0),
}
every_step = pytest.mark.parametrize("name", SAMPLERS)
ALL = {name: steps.lift(step) for name, step in SAMPLERS.items()}
ALL |= {"euler_maruyama": steps.lift(sde_solvers.euler_maruyama())}
ALL |= {"predictor_corrector": steps.lift(sde_solvers.predictor_corrector(0.16))}
ALL |= {"dpm_solver": ode_solvers.dpm_solver(), "heun": ode_solvers.heun()}
every_sampler = pytest.mark.parametrize("name", ALL)


def normal(seed, shape=(4, 2, 2, 3)):
    return jax.random.normal(jax.random.key(seed), shape)


def point_mass(x_t, t):
    """Of data that is always 0.6."""
    return Denoised(jnp.full_like(x_t, 0.6))


def standard_normal(x_t, t):
    """Of data that is N(0, 1): E[x_0 | x_t] = sqrt(alpha_bar) x_t."""
    return Denoised(diffusion.signal(SCHED, t) * x_t)


def run(name, denoiser, steps=100, count=64, shape=(8, 8, 1), until=None, segment=20):
    sampler = ALL[name]
    times = spacing.linear(SCHED.T, steps)[:until]
    keys = loop.image_keys(jax.random.key(0), jnp.arange(count))
    make = loop.program(SCHED, sampler, lambda params: denoiser, times, shape, segment)
    return np.asarray(make((), keys)), int(times[-1])


@every_sampler
def test_a_point_mass_is_recovered_exactly(name):
    images, _ = run(name, point_mass, steps=10)
    np.testing.assert_allclose(images, 0.6, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n != "ancestral-large"])
def test_on_a_point_mass_every_x_t_is_distributed_as_q(name):
    """All but beta's variance, which is too large for a point mass, keep q's marginals."""
    images, t = run(name, point_mass, steps=50, until=26)
    mean, std = SCHED.alpha_bar[t] ** 0.5 * 0.6, (1 - SCHED.alpha_bar[t]) ** 0.5
    assert images.mean() == pytest.approx(mean, abs=4 * std / 64)
    assert images.std() == pytest.approx(std, rel=4 / (64 * 2**0.5))


def test_on_standard_normal_data_beta_is_the_exact_variance():
    """Sec. 3.2: with sigma^2 = beta every x_t stays N(0, 1), however few the steps."""
    images, _ = run("ancestral-large", standard_normal, steps=5, until=5)
    assert images.std() == pytest.approx(1.0, rel=4 / (64 * 2**0.5))


@every_sampler
def test_in_the_limit_of_many_steps_standard_normal_data_is_right(name):
    images, _ = run(name, standard_normal, steps=1000, segment=1000)
    assert images.mean() == pytest.approx(0.0, abs=4 / 64)
    assert images.std() == pytest.approx(1.0, rel=4 / (64 * 2**0.5) + 0.01)


@pytest.mark.parametrize("t, s", [(1000, 999), (1000, 400), (2, 1), (30, 7), (1, 0), (50, 0)])
def test_ddim_with_eta_one_is_ancestral(t, s):
    x_t, noise, guess = normal(0), normal(1), Denoised(jnp.clip(normal(2), -1, 1))
    at_t, at_s = jnp.full(4, t), jnp.full(4, s)
    ours = SAMPLERS["ddim-1"](SCHED, x_t, guess, at_t, at_s, noise)
    theirs = SAMPLERS["ancestral-small"](SCHED, x_t, guess, at_t, at_s, noise)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_eta_scales_the_standard_deviation_of_ddim_s_noise(eta):
    """Song et al. 2021, Eq. 16."""
    x_t, noise, guess = normal(0), normal(1), Denoised(jnp.clip(normal(2), -1, 1))
    t, s = jnp.full(4, 500), jnp.full(4, 300)
    step = steps.ddim(eta)
    moved = step(SCHED, x_t, guess, t, s, noise) - step(SCHED, x_t, guess, t, s, 0.0 * noise)
    expected = eta * jnp.sqrt(diffusion.posterior_variance(SCHED, t, s)) * noise
    np.testing.assert_allclose(moved, expected, atol=1e-5)


@every_step
def test_a_strided_chain_is_the_chain_of_the_respaced_schedule(name):
    times = spacing.linear(SCHED.T, 25)
    respaced = diffusion.schedule(
        1.0 - (SCHED.alpha_bar[times[:-1]] / SCHED.alpha_bar[times[1:]])[::-1]
    )
    x_t, noise, guess = normal(0), normal(1), Denoised(jnp.clip(normal(2), -1, 1))
    step = SAMPLERS[name]
    for i in (1, 2, 13, 25):
        t, s = (jnp.full(4, times[25 - i + j]) for j in (0, 1))
        strided = step(SCHED, x_t, guess, t, s, noise)
        i = jnp.full(4, i)
        np.testing.assert_allclose(strided, step(respaced, x_t, guess, i, i - 1, noise), atol=2e-5)


def test_a_variance_range_is_strided_as_it_is_respaced():
    times = spacing.linear(SCHED.T, 25)
    respaced = diffusion.schedule(
        1.0 - (SCHED.alpha_bar[times[:-1]] / SCHED.alpha_bar[times[1:]])[::-1]
    )
    x_t, noise = normal(0), normal(1)
    guess = Denoised(jnp.clip(normal(2), -1, 1), variance=0.7 * normal(3))
    step = steps.ancestral(parameterization.learned_range)
    for i in (2, 13, 25):
        t, s = (jnp.full(4, times[25 - i + j]) for j in (0, 1))
        i = jnp.full(4, i)
        strided = step(SCHED, x_t, guess, t, s, noise)
        np.testing.assert_allclose(strided, step(respaced, x_t, guess, i, i - 1, noise), atol=2e-5)


@every_step
def test_the_last_step_is_free_of_noise(name):
    x_t, guess, one = normal(0), Denoised(jnp.clip(normal(2), -1, 1)), jnp.full(4, 1)
    step = SAMPLERS[name]
    loud = step(SCHED, x_t, guess, one, one - 1, 100.0 * normal(1))
    np.testing.assert_allclose(loud, guess.x_0, atol=1e-5)


def test_a_learned_variance_scales_the_noise():
    x_t, noise, t = normal(0), normal(1), jnp.full(4, 500)
    guess = Denoised(jnp.zeros_like(x_t), variance=jnp.full_like(x_t, 2 * np.log(0.25)))
    step = steps.ancestral(parameterization.learned)
    still = step(SCHED, x_t, guess, t, t - 1, 0.0 * noise)
    moved = step(SCHED, x_t, guess, t, t - 1, noise)
    np.testing.assert_allclose(moved - still, 0.25 * noise, atol=1e-6)


def test_a_mean_of_the_network_s_own_is_where_ancestral_sampling_goes():
    x_t, t = normal(0), jnp.full(4, 500)
    guess = Denoised(normal(1), mean=normal(2))
    step = SAMPLERS["ancestral-small"]
    np.testing.assert_array_equal(
        step(SCHED, x_t, guess, t, t - 1, jnp.zeros_like(x_t)), guess.mean
    )


@every_sampler
def test_image_i_is_the_same_in_any_batch_and_any_segments(name):
    sampler = ALL[name]
    times = spacing.linear(SCHED.T, 7)

    def draw(numbers, segment):
        make = loop.program(
            SCHED, sampler, lambda params: standard_normal, times, (2, 2, 1), segment
        )
        return make((), loop.image_keys(jax.random.key(3), jnp.array(numbers)))

    whole = draw([0, 1, 2, 3], 7)
    np.testing.assert_allclose(draw([2, 3], 2), whole[2:], atol=1e-6)
    assert len(np.unique(np.round(whole, 4))) > 12  # different images, different noise


def test_the_bar_moves_by_every_step_once():
    ticks = []
    sampler = steps.lift(SAMPLERS["ddim-0"])
    make = loop.program(
        SCHED, sampler, lambda params: point_mass, spacing.linear(1000, 45), (2, 2, 1), 20
    )
    make((), loop.image_keys(jax.random.key(0), jnp.arange(2)), ticks.append)
    assert ticks == [20, 20, 5]


def test_a_path_goes_from_T_to_0_and_takes_every_step_when_asked():
    np.testing.assert_array_equal(spacing.linear(6, 6), [6, 5, 4, 3, 2, 1, 0])
    for n in (1, 2, 7, 50, 999):
        times = spacing.linear(1000, n)
        assert times[0] == 1000 and times[-1] == 0 and len(times) == n + 1
        assert (np.diff(times) < 0).all()
    for n in (0, 1001):
        with pytest.raises(ValueError, match=r"sample\.steps"):
            spacing.linear(1000, n)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_out_of_range_is_refused(eta):
    with pytest.raises(ValueError, match="eta is .* between 0 and 1"):
        steps.ddim(eta)


@pytest.mark.parametrize("steps", [1, 2, 10, 50, 999, 1000])
def test_quadratic_times_fall_from_T_to_0_each_once(steps):
    """Song et al. 2021, App. D.2: tau_i = c i^2, where whole times allow it."""
    times = spacing.quadratic(1000, steps)
    assert times[0] == 1000 and times[-1] == 0 and len(times) == steps + 1
    assert np.all(np.diff(times) < 0)
    if steps <= 10:
        np.testing.assert_allclose(times, 1000 * (np.arange(steps, -1, -1) / steps) ** 2, atol=0.5)
