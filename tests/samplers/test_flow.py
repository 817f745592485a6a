"""The probability-flow ODE on data whose density is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.processes import (
    MEANS,
    PROCESSES,
    STDS,
    WEIGHTS,
    T,
    check_moments,
    mixture,
    sampled,
    some_now,
)

from ddpm_jax import diffusion, sde
from ddpm_jax.samplers import ode_solvers, probability_flow, spacing


def test_the_ode_draws_a_mixture_of_gaussians():
    sched = PROCESSES["vp"]
    check_moments(sampled(sched, ode_solvers.ode(), spacing.linear(T, 1)), 0.01)


def gaussian(sched, mean, variance):
    return mixture(sched, np.array([mean]), np.array([variance**0.5]), np.array([1.0]))


@some_now("vp", "sub_vp", "ve", now=["vp"])
def test_the_likelihood_of_a_gaussian_is_its_closed_form(name):
    """To 1e-3 bits/dim, in float32, as it is used; what counts as data is at t_min."""
    wide = {"vp": sde.vp(T, 1e-3, 0.4), "sub_vp": sde.sub_vp(T, 1e-3, 0.4)}
    sched = wide.get(name, sde.ve(T, 0.02, 2e4))  # so that x_T is N(0, 1) to four digits
    mean, variance = 0.3, 0.04
    x = mean + variance**0.5 * jax.random.normal(jax.random.key(0), (8, 2, 2, 1))
    t = jnp.full(1, probability_flow.T_MIN)
    signal, sigma = (
        float(each(sched, t)[0, 0, 0, 0]) for each in (diffusion.signal, diffusion.sigma)
    )
    square = signal**2 * variance + sigma**2
    nats = -0.5 * ((x - signal * mean) ** 2 / square + math.log(2 * math.pi * square))
    expected = probability_flow.bits_per_dim(nats.sum((1, 2, 3)), 4, 256)
    probes = jnp.broadcast_to(probability_flow.basis((2, 2, 1)), (8, 4, 2, 2, 1))
    found, _ = jax.jit(
        lambda: probability_flow.log_density(sched, gaussian(sched, mean, variance), x, probes)
    )()
    np.testing.assert_allclose(probability_flow.bits_per_dim(found, 4, 256), expected, atol=1e-3)


def test_probes_of_both_kinds_give_the_divergence_on_average(x64):
    """Of a field with Jacobian A: the trace of A; signs see a diagonal one without error."""
    matrix = jax.random.normal(jax.random.key(0), (4, 4))
    x, keys = jnp.ones((2, 2, 1)), jax.random.split(jax.random.key(1), 1)

    def divergence(matrix, probes):
        field = lambda t, x: (matrix @ x.ravel()).reshape(x.shape)  # noqa: E731
        return float(probability_flow.estimate_divergence(field, 0.0, x, probes)[1])

    trace = float(jnp.trace(matrix))
    assert divergence(matrix, probability_flow.basis((2, 2, 1))) == pytest.approx(trace)
    for draw in (probability_flow.rademacher, probability_flow.gaussian):
        probes = draw(keys, 4096, (2, 2, 1))[0].astype(x.dtype)
        assert divergence(matrix, probes) == pytest.approx(trace, abs=0.4)
    diagonal, one = jnp.diag(jnp.arange(4.0)), probability_flow.rademacher(keys, 1, (2, 2, 1))[0]
    assert divergence(diagonal, one.astype(x.dtype)) == pytest.approx(6.0)


@pytest.mark.slow
def test_what_is_encoded_is_decoded_and_its_latents_are_normal():
    """Thousands of latents through the ODE: normality takes that many."""
    sched = PROCESSES["vp"]
    denoiser = mixture(sched, MEANS, STDS, WEIGHTS)
    left = jax.random.bernoulli(jax.random.key(0), WEIGHTS[0], (64, 2, 2, 1))
    z = jax.random.normal(jax.random.key(1), left.shape)
    x_0 = jnp.where(left, MEANS[0] + STDS[0] * z, MEANS[1] + STDS[1] * z)
    x_T = jax.jit(lambda x: probability_flow.encode(sched, denoiser, x))(x_0)
    back = jax.jit(lambda x: probability_flow.decode(sched, denoiser, x))(x_T)
    np.testing.assert_allclose(back, x_0, atol=1e-3)
    assert abs(x_T.mean()) < 4 / 16 and x_T.std() == pytest.approx(1.0, rel=4 / (16 * 2**0.5))


def test_dequantised_images_fill_the_bins_of_their_grey_levels():
    """The mean of a density over a bin, by the bin's width, is what bits/dim speak of."""
    levels, x = 17, jnp.linspace(-1.0, 1.0, 17).reshape(17, 1, 1, 1)
    low, high = (probability_flow.dequantize(x, jnp.full_like(x, u), levels) for u in (0.0, 1.0))
    np.testing.assert_allclose(low[1:], high[:-1], atol=1e-6)
    np.testing.assert_allclose(low + high, 2.0 * x, atol=1e-6)
    uniform = jnp.log(jnp.full(1, (levels - 1) / 2 / levels)) * 12  # a density of 1 / 17 a bin
    found = probability_flow.bits_per_dim(uniform, 12, levels)
    assert float(found[0]) == pytest.approx(math.log2(levels))
