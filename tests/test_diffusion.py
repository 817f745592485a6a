"""Theorems of Sections 2 and 3, and the release's own numbers."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import log_bin
from scipy import integrate, stats

from ddpm_jax import diffusion

SCHEDULES = {
    "linear": diffusion.linear(1000, 1e-4, 0.02),
    "quadratic": diffusion.quadratic(1000, 1e-4, 0.02),
    "constant": diffusion.constant(1000, 0.02),
}
every_schedule = pytest.mark.parametrize("sched", SCHEDULES.values(), ids=SCHEDULES.keys())


def steps(*values):
    return jnp.array(values, jnp.int32)


def normal(seed, shape=(3, 4, 4, 2)):
    return jax.random.normal(jax.random.key(seed), shape)


def test_golden_values_of_the_release(x64):
    sched = SCHEDULES["linear"]
    t = steps(1, 2, 501, 1000)
    golden = [0.9999, 0.9997800920720721, 0.07779665836502389, 4.035829765375676e-05]
    np.testing.assert_allclose(sched.alpha_bar[np.array(t)], golden, rtol=1e-12)

    def column(table):
        return np.asarray(table)[:, 0, 0, 0]

    of_x_0, of_x_t = diffusion.posterior_coefficients(sched, t, t - 1)
    exact = {"rtol": 1e-12, "atol": 1e-15}
    np.testing.assert_allclose(
        column(of_x_0)[[0, 1, 3]], [1.0, 0.5452914995102903, 1.2835148717e-4], rtol=1e-10
    )
    np.testing.assert_allclose(
        column(of_x_t)[[0, 1, 3]], [0.0, 0.4547084989905303, 0.9899486782675173], **exact
    )
    variance = column(diffusion.posterior_variance(sched, t, t - 1))
    np.testing.assert_allclose(
        variance[[0, 1, 3]], [0.0, 5.4531876613021935e-05, 0.01999998352656061], **exact
    )
    np.testing.assert_allclose(column(diffusion.signal(sched, t))[3], 0.006352818087570016, **exact)
    np.testing.assert_allclose(column(diffusion.sigma(sched, t))[0], 0.009999999999999449, **exact)
    inverse = 1.0 / column(diffusion.signal(sched, t))[3]
    np.testing.assert_allclose(inverse, 157.41045725150062, rtol=1e-12)


def test_golden_coefficient_of_eps_in_x_0(x64):
    t, zero = steps(1000), jnp.zeros((1, 1, 1, 1))
    x_0 = diffusion.x_0_from_eps(SCHEDULES["linear"], zero, -jnp.ones_like(zero), t)
    np.testing.assert_allclose(x_0.item(), 157.40728081040757, rtol=1e-12)


def test_schedules_are_linear_in_beta_in_its_root_and_not_at_all():
    middle = {name: sched.beta[500] for name, sched in SCHEDULES.items()}
    part = 499 / 999
    assert middle["linear"] == pytest.approx(1e-4 + part * 0.0199, rel=1e-12)
    root = 0.01 + part * (0.02**0.5 - 0.01)
    assert middle["quadratic"] == pytest.approx(root**2, rel=1e-12)
    assert middle["constant"] == 0.02
    for name in ("linear", "quadratic"):
        ends = SCHEDULES[name].beta[[1, 1000]]
        np.testing.assert_allclose(ends, [1e-4, 0.02], rtol=1e-12)


@every_schedule
def test_float32_keeps_the_digits_of_every_coefficient(sched):
    t = jnp.arange(2, sched.T + 1)
    beta = diffusion.transition_variance(sched, t, t - 1)[:, 0, 0, 0]
    np.testing.assert_allclose(beta, sched.beta[2:], rtol=6e-7)
    tilde = sched.beta[2:] * (1 - sched.alpha_bar[1:-1]) / (1 - sched.alpha_bar[2:])
    small = diffusion.posterior_variance(sched, t, t - 1)[:, 0, 0, 0]
    np.testing.assert_allclose(small, tilde, rtol=1e-6)


@every_schedule
def test_nothing_of_the_data_is_left_at_T(sched):
    """Sec. 4: the three schedules were chosen so that L_T is about 0."""
    bits = diffusion.prior_kl(sched, jnp.ones((1, 2, 2, 1))) / math.log(2.0)
    assert 0.0 <= float(bits.max()) < 1e-3


def test_the_prior_term_of_the_linear_schedule():
    """1e-5 bits/dim in the paper; 2.911e-5 where |x_0| = 1, by the release's formula."""
    bits = diffusion.prior_kl(SCHEDULES["linear"], jnp.ones((1, 2, 2, 1))) / math.log(2.0)
    np.testing.assert_allclose(bits, 2.911e-5, rtol=2e-3)


def test_the_cosine_schedule_is_the_improved_paper_s():
    """Eq. 17 itself, but for the last steps, whose beta is cut at 0.999."""
    sched = diffusion.cosine(4000)
    f = [math.cos((t / 4000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(4001)]
    uncut = sched.beta < 0.999
    assert uncut[:-1].all() and sched.beta[-1] == 0.999
    np.testing.assert_allclose(sched.alpha_bar[:-1], np.array(f[:-1]) / f[0], rtol=1e-9)
    assert 0.4 < sched.alpha_bar[2000] < 0.5  # the linear schedule has 0.08 left there
    with pytest.raises(ValueError, match="at least 2"):
        diffusion.cosine(1)


@every_schedule
def test_posterior_is_bayes(sched, x64):
    """q(x_s | x_t, x_0) q(x_t | x_0) = q(x_t | x_s) q(x_s | x_0), at any point, for any s < t."""
    x_0, x_s, x_t = (jnp.full((1, 1, 1, 1), v) for v in (0.3, -0.7, 0.9))

    def log_pdf(x, mean, variance):
        return float(stats.norm.logpdf(x, mean, np.sqrt(variance)).item())

    def marginal(x, time):
        scale, std = diffusion.signal(sched, time), diffusion.sigma(sched, time)
        return log_pdf(x, scale * x_0, std**2)

    for t, s in ((2, 1), (500, 499), (500, 100), (1000, 3)):
        at_t, at_s = steps(t), steps(s)
        step = diffusion.transition_variance(sched, at_t, at_s)
        left = log_pdf(
            x_s,
            diffusion.q_posterior_mean(sched, x_0, x_t, at_t, at_s),
            diffusion.posterior_variance(sched, at_t, at_s),
        ) + marginal(x_t, at_t)
        right = log_pdf(x_t, jnp.sqrt(1 - step) * x_s, step) + marginal(x_s, at_s)
        assert left == pytest.approx(right, rel=1e-9)


def test_one_step_after_another_is_one_leap(x64):
    """q(x_t | x_r) is q(x_s | x_r) followed by q(x_t | x_s)."""
    sched = SCHEDULES["linear"]
    r, s, t = steps(100), steps(400), steps(900)
    step = diffusion.transition_variance
    both = 1 - (1 - step(sched, s, r)) * (1 - step(sched, t, s))
    np.testing.assert_allclose(step(sched, t, r), both, rtol=1e-12)


@every_schedule
def test_x_0_and_eps_invert(sched):
    x_0, eps = normal(0), normal(1)
    t = steps(1, 300, 700)
    x_t = diffusion.q_sample(sched, x_0, t, eps)
    np.testing.assert_allclose(diffusion.x_0_from_eps(sched, x_t, eps, t), x_0, atol=1e-3)
    np.testing.assert_allclose(diffusion.eps_from_x_0(sched, x_t, x_0, t), eps, atol=1e-4)


def test_samples_of_q_have_its_moments():
    sched, t = SCHEDULES["linear"], 300
    x_0 = jnp.full((2000, 8, 8, 1), 0.5)
    x_t = diffusion.q_sample(sched, x_0, jnp.full(2000, t), normal(0, x_0.shape))
    assert float(x_t.mean()) == pytest.approx(0.5 * sched.alpha_bar[t] ** 0.5, abs=0.01)
    assert float(x_t.var()) == pytest.approx(1 - sched.alpha_bar[t], rel=0.02)


def test_kl_is_the_integral_that_defines_it():
    p, q = stats.norm(0.3, 0.5), stats.norm(-0.2, 0.8)
    integral, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -5, 5)
    kl = diffusion.normal_kl(0.3, 2 * math.log(0.5), -0.2, 2 * math.log(0.8))
    assert float(kl) == pytest.approx(integral, rel=1e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("log_cdf", [diffusion.log_cdf_normal, diffusion.log_cdf_tanh])
def test_probabilities_of_the_grey_levels_sum_to_one(levels, log_cdf):
    grey = jnp.linspace(-1.0, 1.0, levels)[None, :, None, None]
    likelihood = jax.jit(diffusion.discretized_log_likelihood, static_argnums=(3, 4))
    for mean, log_variance in itertools.product((-3.0, -1.0, 0.013, 0.9), (-9.0, -2.0, 3.0)):
        logs = likelihood(grey, jnp.array(mean), jnp.array(log_variance), levels, log_cdf)
        assert float(jax.nn.logsumexp(logs)) == pytest.approx(0.0, abs=2e-4)


def test_likelihood_is_the_integral_over_the_bin_far_into_the_tails():
    """Eq. 13, against scipy in float64."""
    grey = np.linspace(-1.0, 1.0, 256)
    for mean, std in itertools.product((-0.2, 0.7, 1.3), (0.007, 0.1, 2.0)):
        ours = diffusion.discretized_log_likelihood(
            jnp.asarray(grey[None, :, None, None], jnp.float32),
            jnp.array(mean),
            jnp.array(2 * math.log(std)),
            256,
        )[0, :, 0, 0]
        upper, lower = (grey + 1 / 255 - mean) / std, (grey - 1 / 255 - mean) / std
        upper[-1], lower[0] = np.inf, -np.inf
        np.testing.assert_allclose(ours, log_bin(upper, lower), rtol=2e-4, atol=2e-4)


def test_gradient_of_the_likelihood_is_finite_everywhere():
    grey = jnp.linspace(-1.0, 1.0, 256)[None, :, None, None]

    def total(mean, log_variance):
        return diffusion.discretized_log_likelihood(grey, mean, log_variance, 256).sum()

    gradient = jax.jit(jax.grad(total, (0, 1)))
    for mean, log_variance in itertools.product((-5.0, 0.0, 1.0, 5.0), (-14.0, -5.0, 2.0)):
        slopes = gradient(jnp.array(mean), jnp.array(log_variance))
        assert all(bool(jnp.isfinite(slope)) for slope in slopes)


def test_the_release_s_likelihood_has_a_floor_without_a_gradient():
    grey, log_variance = jnp.full((1, 1, 1, 1), 0.5), jnp.array(-9.8167)

    def total(mean):
        return diffusion.released_log_likelihood(grey, mean, log_variance, 256).sum()

    value, slope = jax.jit(jax.value_and_grad(total))(jnp.array(0.0))
    assert float(value) == pytest.approx(math.log(1e-12)) and float(slope) == 0.0
    near = jnp.array(0.497)
    exact = diffusion.discretized_log_likelihood(grey, near, log_variance, 256).sum()
    assert float(total(near)) == pytest.approx(float(exact), rel=2e-3)
    assert float(jax.jit(jax.grad(total))(near)) > 0.0


def test_tanh_is_near_the_normal_cdf():
    z = jnp.linspace(-4.0, 4.0, 101)
    exact, near = jnp.exp(diffusion.log_cdf_normal(z)), jnp.exp(diffusion.log_cdf_tanh(z))
    difference = float(jnp.abs(exact - near).max())
    assert 1e-5 < difference < 1e-3


@pytest.mark.parametrize(
    "make, fault",
    [
        (lambda: diffusion.linear(1, 1e-4, 0.02), "at least 2"),
        (lambda: diffusion.linear(10, 0.0, 0.02), "strictly between"),
        (lambda: diffusion.constant(10, 1.0), "strictly between"),
    ],
)
def test_impossible_schedules_are_refused(make, fault):
    with pytest.raises(ValueError, match=fault):
        make()
