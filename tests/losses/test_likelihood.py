"""The bound against a model small enough to integrate: exact <= importance-weighted <= bound."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ddpm_jax import diffusion, parameterization
from ddpm_jax.losses import bound as bound_terms
from ddpm_jax.parameterization import Denoised

SCHED, LEVELS = diffusion.linear(3, 0.2, 0.7), 5
GREY = np.linspace(-1.0, 1.0, LEVELS)
DATA = np.array([0.1, 0.3, 0.2, 0.25, 0.15])  # q(x_0), of the grey levels
POINTS, WIDTH = np.linspace(-9.0, 9.0, 361, retstep=True)  # sums over them are integrals to 1e-12


def denoiser(x_t, t):
    """Any one will do: the inequalities hold for every model."""
    return Denoised(0.9 * jnp.tanh(1.5 * x_t + 0.1 * t[:, None, None, None]))


def reverse(x_t, t):
    """Mean and standard deviation of p(x_{t-1} | x_t), of points x_t."""
    x_t = jnp.asarray(x_t).reshape(-1, 1, 1, 1)
    times = jnp.full(len(x_t), t)
    out = denoiser(x_t, times)
    variance = parameterization.fixed_small
    mean, log_variance = parameterization.reverse(SCHED, variance, out, x_t, times, times - 1)
    std = jnp.exp(0.5 * log_variance) + 0.0 * mean
    return np.asarray(mean, np.float64).ravel(), np.asarray(std, np.float64).ravel()


def log_decoder(x_0, x_1):
    """log P(x_0 | x_1): the normal's mass between a level's edges; the end bins are open."""
    mean, std = reverse(x_1, 1)
    half = 1.0 / (LEVELS - 1)
    upper = np.where(x_0 > 1 - half, np.inf, x_0 + half)
    lower = np.where(x_0 < -1 + half, -np.inf, x_0 - half)
    mass = stats.norm.cdf((upper - mean) / std) - stats.norm.cdf((lower - mean) / std)
    return np.log(np.maximum(mass, 1e-300))


def exact():
    """-log2 P of every grey level, by integration over x_1, x_2, x_3."""
    points = np.linspace(-7.0, 7.0, 1401)
    density, width = stats.norm.pdf(points), points[1] - points[0]
    for t in (3, 2):
        mean, std = reverse(points, t)
        density = (density * width) @ stats.norm.pdf(points[None], mean[:, None], std[:, None])
    mass = [(density * np.exp(log_decoder(level, points))).sum() * width for level in GREY]
    assert sum(mass) == pytest.approx(1.0, abs=1e-6)
    return -np.log2(mass)


def log_weights(x_0, count):
    """log p(x_0, x_1..x_3) / q(x_1..x_3 | x_0) of 'count' chains drawn from q."""
    rng, x, log_w = np.random.default_rng(0), np.full(count, x_0), np.zeros(count)
    for t in (1, 2, 3):
        mean, std = np.sqrt(1 - SCHED.beta[t]) * x, np.sqrt(SCHED.beta[t])
        x_t = mean + std * rng.standard_normal(count)
        log_w -= stats.norm.logpdf(x_t, mean, std)
        log_w += log_decoder(x_0, x_t) if t == 1 else stats.norm.logpdf(x, *reverse(x_t, t))
        x = x_t
    return log_w + stats.norm.logpdf(x)


def importance_weighted(x_0, k):
    """-log2 of the mean of k weights, averaged over many such. Burda et al. 2016, Eq. 8."""
    found = log_weights(x_0, 100_000).reshape(-1, k)
    return -(np.logaddexp.reduce(found, axis=1) - math.log(k)).mean() / math.log(2.0)


def test_exact_is_below_the_importance_weighted_bound_is_below_the_bound():
    keys = jax.random.split(jax.random.key(0), 40_000)
    chosen, variance = bound_terms.strata(3, 3), parameterization.fixed_small
    bound = jax.jit(
        lambda x_0: bound_terms.bound(SCHED, variance, denoiser, x_0, keys, chosen, LEVELS)
    )
    for level, nll in zip(GREY, exact(), strict=True):
        values = bound(jnp.full((len(keys), 1, 1, 1), level))
        total = np.asarray(values.total, np.float64)
        weighted = [importance_weighted(level, k) for k in (1, 10, 4000)]
        noise = 4 * total.std() / math.sqrt(len(total))
        assert weighted[0] == pytest.approx(total.mean(), abs=noise + 0.02)  # k = 1 is the bound
        assert nll + 0.02 < weighted[1] + 0.01 < total.mean()
        assert weighted[2] == pytest.approx(nll, abs=0.01)
        np.testing.assert_allclose(values.rate + values.distortion, values.total, rtol=1e-6)


def forward(x, t, s=0):
    """Mean and standard deviation of q(x_t | x_s), a row for each x."""
    ratio = SCHED.alpha_bar[t] / SCHED.alpha_bar[s]
    return np.sqrt(ratio) * np.asarray(x)[:, None], np.sqrt(1.0 - ratio)


def bound_given_x_0():
    """L in nats by Eq. 5: the package's terms of each grey level, integrated over q(x_t | x_0)."""
    x_0 = jnp.asarray(GREY.repeat(len(POINTS))).reshape(-1, 1, 1, 1)
    x_t = jnp.asarray(np.tile(POINTS, LEVELS)).reshape(-1, 1, 1, 1)

    @jax.jit
    def term(times):
        out, variance = denoiser(x_t, times), parameterization.fixed_small
        return bound_terms.bound_term(SCHED, variance, out, x_0, x_t, times, LEVELS)

    bits = bound_terms.prior_term(SCHED, jnp.asarray(GREY).reshape(-1, 1, 1, 1))
    for t in (1, 2, 3):
        density = stats.norm.pdf(POINTS, *forward(GREY, t))
        values = np.asarray(term(jnp.full(len(x_t), t))).reshape(LEVELS, -1)
        bits += (density * values).sum(axis=1) * WIDTH
    return float(DATA @ bits) * math.log(2.0)


def bound_of_the_chain():
    """L in nats by Eq. 26, which knows q(x_t) and q(x_{t-1} | x_t) without x_0."""
    q = [DATA, *(DATA @ stats.norm.pdf(POINTS, *forward(GREY, t)) for t in (1, 2, 3))]
    total = -DATA @ np.log(DATA) + (q[3] * np.log(q[3] / stats.norm.pdf(POINTS))).sum() * WIDTH
    for t in (1, 2, 3):
        x_s, width = (POINTS, WIDTH) if t > 1 else (GREY, 1.0)
        step = forward(x_s, t, t - 1)
        joint = q[t - 1][:, None] * stats.norm.pdf(POINTS, *step)
        log_q = np.log(q[t - 1])[:, None] + stats.norm.logpdf(POINTS, *step) - np.log(q[t])
        if t > 1:
            log_p = stats.norm.logpdf(x_s[:, None], *reverse(POINTS, t))
        else:
            log_p = log_decoder(x_s[:, None], POINTS)
        total += (joint * (log_q - log_p)).sum() * width * WIDTH
    return total


def test_the_bound_given_x_0_is_the_bound_of_the_whole_chain(x64):
    """Eq. 5 is Eq. 16: sums of KL divergences with x_0 given, and without it plus the entropy of x_0."""
    assert bound_given_x_0() == pytest.approx(bound_of_the_chain(), abs=1e-9)


def test_the_error_of_x_0_hat_is_the_closed_form_of_a_linear_denoiser():
    sched, gain, pixel = diffusion.linear(6, 0.05, 0.5), 0.6, 0.4
    x_0, keys = jnp.full((64, 16, 16, 1), pixel), jax.random.split(jax.random.key(0), 64)
    values = bound_terms.bound(
        sched,
        parameterization.fixed_large,
        lambda x_t, t: Denoised(gain * x_t),
        x_0,
        keys,
        bound_terms.strata(6, 6),
        LEVELS,
    )
    alpha_bar = sched.alpha_bar[1:]
    expected = (pixel * (1 - gain * np.sqrt(alpha_bar))) ** 2 + gain**2 * (1 - alpha_bar)
    np.testing.assert_allclose(values.mse.mean(axis=0), expected, rtol=0.04)
