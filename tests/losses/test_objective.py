"""Parameterisations, losses and the bound, with networks whose right answer is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import log_bin

from ddpm_jax import diffusion, parameterization
from ddpm_jax.losses import bound as bound_terms
from ddpm_jax.losses import objective
from ddpm_jax.parameterization import Denoised

SCHED = diffusion.linear(20, 0.01, 0.4)
LIKELIHOOD = diffusion.discretized_log_likelihood
OUTPUTS = {name: getattr(parameterization, name) for name in ("eps", "x_0", "x_prev")}
every_output = pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())


def normal(seed, shape=(4, 4, 4, 2)):
    return jax.random.normal(jax.random.key(seed), shape)


def noised(t=(1, 2, 9, 20)):
    x_0, eps, t = jnp.tanh(normal(0)), normal(1), jnp.array(t)
    return x_0, eps, t, diffusion.q_sample(SCHED, x_0, t, eps)


@every_output
def test_reading_inverts_the_target(output):
    x_0, eps, t, x_t = noised()
    out = output.read(SCHED, output.target(SCHED, x_0, x_t, eps, t), x_t, t)
    np.testing.assert_allclose(out.x_0, x_0, atol=2e-4)


@every_output
def test_the_right_output_gives_the_posterior_mean(output):
    x_0, eps, t, x_t = noised()
    out = output.read(SCHED, output.target(SCHED, x_0, x_t, eps, t), x_t, t)
    mean, _ = parameterization.reverse(SCHED, parameterization.fixed_small, out, x_t, t, t - 1)
    expected = diffusion.q_posterior_mean(SCHED, x_0, x_t, t, t - 1)
    np.testing.assert_allclose(mean, expected, atol=1e-4)


def test_a_mu_tilde_network_s_mean_is_its_raw_output_clipped_or_not():
    _, _, t, x_t = noised()
    raw = 3.0 * normal(5)
    denoise = parameterization.denoiser(parameterization.x_prev, SCHED, lambda x, t: raw)
    out = parameterization.clip(denoise)(x_t, t)
    mean, _ = parameterization.reverse(SCHED, parameterization.fixed_large, out, x_t, t, t - 1)
    np.testing.assert_array_equal(mean, raw)
    assert float(jnp.abs(out.x_0).max()) <= 1.0


def test_clipping_comes_before_the_mean():
    _, _, t, x_t = noised()
    denoise = parameterization.denoiser(parameterization.x_0, SCHED, lambda x, t: 3.0 + x)
    out = parameterization.clip(denoise)(x_t, t)
    mean, _ = parameterization.reverse(SCHED, parameterization.fixed_large, out, x_t, t, t - 1)
    limited = jnp.clip(3.0 + x_t, -1.0, 1.0)
    expected = diffusion.q_posterior_mean(SCHED, limited, x_t, t, t - 1)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)


@every_output
def test_the_last_channels_are_the_learned_log_variance(output):
    _, _, t, x_t = noised()
    double = jnp.concatenate([normal(5), normal(6)], axis=-1)
    out = parameterization.read_output(output, SCHED, double, x_t, t)
    _, log_variance = parameterization.reverse(SCHED, parameterization.learned, out, x_t, t, t - 1)
    np.testing.assert_array_equal(log_variance, double[..., 2:])
    single = parameterization.read_output(output, SCHED, double[..., :2], x_t, t)
    assert single.variance is None
    np.testing.assert_array_equal(out.x_0, single.x_0)


def test_a_variance_range_goes_from_beta_tilde_to_beta_for_any_two_steps():
    x_0, _, t, _ = noised()
    for s in (t - 1, jnp.array([0, 1, 4, 7])):
        for value, bound in ((-1.0, parameterization.fixed_small), (1.0, None)):
            out = Denoised(x_0, variance=jnp.full_like(x_0, value))
            found = parameterization.learned_range(SCHED, out, t, s)
            large = jnp.log(diffusion.transition_variance(SCHED, t, s))
            expected = bound(SCHED, out, t, s) if bound else large
            np.testing.assert_allclose(found, jnp.broadcast_to(expected, found.shape), atol=1e-5)
        half = parameterization.learned_range(SCHED, Denoised(x_0, variance=0.0 * x_0), t, s)
        small = parameterization.fixed_small(SCHED, out, t, s)
        np.testing.assert_allclose(
            half, jnp.broadcast_to((small + large) / 2, half.shape), rtol=1e-5
        )


def test_the_hybrid_loss_gives_the_mean_no_gradient_from_its_bound():
    """And the variance none from L_simple: that half's gradient is lambda T times the bound's."""
    x_0, eps, t, _ = noised()
    output = jnp.concatenate([normal(3), 0.3 * normal(4)], axis=-1)
    fields = parameterization.eps, parameterization.learned_range, 256, LIKELIHOOD

    def gradient(loss, output):
        return jax.jit(jax.grad(lambda o: loss(SCHED, lambda x, t: o, x_0, t, eps).sum()))(output)

    of_mean, of_variance = jnp.split(gradient(objective.hybrid(*fields), output), 2, axis=-1)
    simple = gradient(objective.simple(parameterization.eps), output[..., :2])
    np.testing.assert_allclose(of_mean, simple, rtol=1e-6)
    bound_mean, bound = jnp.split(gradient(objective.vlb(*fields), output), 2, axis=-1)
    np.testing.assert_allclose(of_variance, 0.001 * SCHED.T * bound, rtol=1e-5, atol=1e-9)
    assert float(jnp.abs(bound_mean).max()) > 1e-3  # the bound alone would move the mean
    assert float(jnp.abs(of_variance).max()) > 0.0


def test_fixed_variances_are_the_entropy_bounds_of_section_3_2(x64):
    """x_s given x_t varies by beta-tilde if x_0 is a point, by beta if x_0 ~ N(0, 1), else between."""
    t = jnp.arange(2, 21)
    s, ones = t - 1, Denoised(jnp.ones((19, 1, 1, 1)))
    alpha = 1.0 - diffusion.transition_variance(SCHED, t, s)
    signal_s, signal_t = diffusion.signal(SCHED, s), diffusion.signal(SCHED, t)

    def of_data(variance):
        """The variance of x_s given x_t when x_0 ~ N(0, variance): x_s and x_t are jointly normal."""
        var_s = signal_s**2 * variance + 1.0 - signal_s**2
        var_t = signal_t**2 * variance + 1.0 - signal_t**2
        return var_s - alpha * var_s**2 / var_t

    small = jnp.exp(parameterization.fixed_small(SCHED, ones, t, s))
    large = jnp.exp(parameterization.fixed_large(SCHED, ones, t, s))
    np.testing.assert_allclose(small, of_data(0.0), rtol=1e-10)
    np.testing.assert_allclose(large, of_data(1.0), rtol=1e-10)
    assert bool(jnp.all((small < of_data(0.3)) & (of_data(0.3) < large)))


def test_log_variances_of_the_release_at_its_ends(x64):
    sched = diffusion.linear(1000, 1e-4, 0.02)
    t = jnp.array([1, 2, 1000])
    out = Denoised(jnp.zeros((3, 1, 1, 1)))
    small = parameterization.fixed_small(sched, out, t, t - 1)[:, 0, 0, 0]
    large = parameterization.fixed_large(sched, out, t, t - 1)[:, 0, 0, 0]
    golden = [-9.81672513529567, -9.81672513529567, -3.912023829100455]
    np.testing.assert_allclose(small, golden, rtol=1e-12)
    golden = [-9.81672513529567, -9.028686371949341, -3.912023005428146]
    np.testing.assert_allclose(large, golden, rtol=1e-12)


def test_l_simple_is_the_mean_squared_error_of_eps():
    """Eq. 14: a network that says zero loses E|eps|^2, image by image."""
    x_0, eps, t, _ = noised()
    loss = objective.simple(parameterization.eps)
    found = loss(SCHED, lambda x, t: jnp.zeros_like(x), x_0, t, eps)
    np.testing.assert_allclose(found, (eps**2).mean(axis=(1, 2, 3)), rtol=1e-6)


def test_the_mse_of_mu_tilde_is_against_the_posterior_mean():
    x_0, eps, t, x_t = noised()
    loss = objective.simple(parameterization.x_prev)
    found = loss(SCHED, lambda x, t: jnp.zeros_like(x), x_0, t, eps)
    mean = diffusion.q_posterior_mean(SCHED, x_0, x_t, t, t - 1)
    np.testing.assert_allclose(found, (mean**2).mean(axis=(1, 2, 3)), rtol=1e-5)


def test_the_weighted_bound_is_eq_12():
    """For eps and t > 1: beta^2 / (2 sigma^2 alpha (1 - alpha_bar)) |eps - eps_theta|^2, in bits."""
    x_0, eps, t, _ = noised((2, 5, 9, 20))
    loss = objective.vlb(parameterization.eps, parameterization.fixed_small, 256, LIKELIHOOD)
    guess = 0.1 * normal(7)
    found = loss(SCHED, lambda x, t: guess, x_0, t, eps)
    beta, alpha_bar = SCHED.beta[np.array(t)], SCHED.alpha_bar[np.array(t)]
    tilde = beta * (1 - SCHED.alpha_bar[np.array(t) - 1]) / (1 - alpha_bar)
    weight = beta**2 / (2 * tilde * (1 - beta) * (1 - alpha_bar))
    error = ((eps - guess) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found, weight * error / math.log(2.0), rtol=1e-4)


@every_output
def test_a_perfect_network_has_no_loss_but_the_decoder(output):
    x_0, eps, t, x_t = noised()
    right = output.target(SCHED, x_0, x_t, eps, t)
    np.testing.assert_allclose(objective.simple(output)(SCHED, lambda x, t: right, x_0, t, eps), 0)
    bound = objective.vlb(output, parameterization.fixed_small, 256, LIKELIHOOD)
    terms = bound(SCHED, lambda x, t: right, x_0, t, eps)
    np.testing.assert_allclose(terms[1:], 0.0, atol=1e-5)
    assert float(terms[0]) > 0.0


def gaussian(c):
    """The best denoiser when x_0 ~ N(0, c^2): linear in x_t."""

    def denoise(x_t, t):
        signal, noise = diffusion.signal(SCHED, t), diffusion.sigma(SCHED, t)
        return Denoised(signal * c**2 / (signal**2 * c**2 + noise**2) * x_t)

    return denoise


def closed_form(x_0, c, levels, variances):
    """The bound of the Gaussian model on one pixel, expectation over the noise taken exactly."""
    T, alpha_bar = SCHED.T, SCHED.alpha_bar
    signal, noise = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    gain = signal * c**2 / (signal**2 * c**2 + noise**2)
    prior = 0.5 * (alpha_bar[T] * x_0**2 - alpha_bar[T] - np.log(1 - alpha_bar[T]))
    total = prior
    for t in range(2, T + 1):
        tilde = SCHED.beta[t] * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
        of_x_0 = signal[t - 1] * SCHED.beta[t] / (1 - alpha_bar[t])
        error = (x_0 * (1 - gain[t] * signal[t])) ** 2 + (gain[t] * noise[t]) ** 2
        ratio = tilde / variances[t]
        total += 0.5 * (ratio - 1 - np.log(ratio) + of_x_0**2 * error / variances[t])
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    mean = gain[1] * (signal[1] * x_0 + noise[1] * nodes)
    edges = [x_0 + 1 / (levels - 1), x_0 - 1 / (levels - 1)]
    upper, lower = ((edge - mean) / np.sqrt(variances[1]) for edge in edges)
    total -= (weights * log_bin(upper, lower)).sum() / weights.sum()
    return total / math.log(2.0)


@pytest.mark.parametrize("name", ["fixed_small", "fixed_large"])
def test_the_terms_sum_to_the_closed_form_of_a_gaussian_model(name):
    c, levels, pixel = 0.5, 17, 0.25
    tilde = SCHED.beta[1:] * (1 - SCHED.alpha_bar[:-1]) / (1 - SCHED.alpha_bar[1:])
    variances = {"fixed_small": tilde, "fixed_large": SCHED.beta[1:].copy()}[name]
    variances[0] = tilde[1]  # at t = 1 the release takes the posterior variance of t = 2
    expected = closed_form(pixel, c, levels, np.concatenate([[0.0], variances]))

    x_0 = jnp.full((64, 16, 16, 1), pixel)
    keys = jax.random.split(jax.random.key(0), 64)
    variance = getattr(parameterization, name)

    def bound(steps):
        chosen = bound_terms.strata(SCHED.T, steps)
        return bound_terms.bound(SCHED, variance, gaussian(c), x_0, keys, chosen, levels)

    found = np.asarray(jax.jit(lambda: bound(20).total)())
    assert found.mean() == pytest.approx(expected, abs=4 * float(found.std()) / 8)
    assert found.std() / 8 < 0.01 * expected
    part = np.asarray(jax.jit(lambda: bound(7).total)())
    assert part.mean() == pytest.approx(expected, abs=4 * float(part.std()) / 8)
    assert part.std() > found.std()  # fewer steps, more noise


def test_strata_cover_every_step_once():
    for steps in (2, 7, 20):
        chosen = bound_terms.strata(20, steps)
        covered = [
            t for first, size in zip(*chosen, strict=True) for t in range(first, first + size)
        ]
        assert covered == list(range(1, 21))
        assert len(chosen.first) == steps and chosen.size[0] == 1
    with pytest.raises(ValueError, match=r"eval\.steps is 21"):
        bound_terms.strata(20, 21)
