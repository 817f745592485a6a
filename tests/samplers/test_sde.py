"""Theorems of score-based SDEs, on data whose score is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.processes import (
    PROCESSES,
    T,
    check_moments,
    every_process,
    sampled,
    some_now,
)

from ddpm_jax import diffusion, parameterization, sde
from ddpm_jax.losses import objective
from ddpm_jax.parameterization import Denoised
from ddpm_jax.samplers import loop, sde_solvers, spacing, steps


def kernel(sched, t):
    """Signal and sigma in the process's own coordinates."""
    scale = sde.scale(sched, t)
    return [np.ravel(scale * each(sched, t)) for each in (diffusion.signal, diffusion.sigma)]


def closed_form(name, t):
    """Eq. 29 of Song et al. 2021; t >= 1 of VE."""
    unit = t / T
    b = 0.1 * unit + 0.5 * (20.0 - 0.1) * unit**2
    if name == "ve":
        return np.ones_like(t), 0.02 * (20.0 / 0.02) ** ((t - 1) / (T - 1))
    return np.exp(-0.5 * b), -np.expm1(-b) if name == "sub_vp" else np.sqrt(-np.expm1(-b))


@pytest.mark.parametrize("name", ["vp", "sub_vp", "ve"])
def test_the_kernels_are_the_paper_s(name, x64):
    t = np.arange(1, T + 1)
    found = kernel(PROCESSES[name], jnp.asarray(t))
    np.testing.assert_allclose(found, closed_form(name, t), rtol=1e-6)


@every_process
def test_the_moments_of_the_sde_are_those_of_its_kernel(name, x64):
    """dm/dt = f m and dv/dt = 2 f v + g^2 (Särkkä & Solin, Eq. 5.50), at any two times within a step."""
    sched = PROCESSES[name]
    t = jnp.array([0.3, 1.5, 20.25, 77.0, 99.9]) - 1e-9
    h = 1e-4
    (m_0, s_0), (m_1, s_1), (m, s) = kernel(sched, t - h), kernel(sched, t + h), kernel(sched, t)
    # at the end of a step, and between its two sides, rates jump
    inside = np.asarray(t + h) // 1 == np.asarray(t - h) // 1
    f = np.ravel(sde.drift(sched, t))
    square = np.ravel(sde.diffusion_coefficient(sched, t)) ** 2
    atol = 1e-6 * square[inside]
    assert inside.sum() == 4
    np.testing.assert_allclose(((m_1 - m_0) / (2 * h))[inside], (f * m)[inside], atol=1e-8)
    slope = (s_1**2 - s_0**2) / (2 * h) - (2 * f * s**2 + square)
    assert (np.abs(slope[inside]) < atol + 1e-8).all()


@some_now(*PROCESSES, now=["sub_vp"])
def test_the_kernel_is_what_the_simulated_sde_does(name):
    """Euler-Maruyama of dx = f x dt + g dw in 40 pieces a step, from one x_0."""
    sched, pieces, count, x_0 = PROCESSES[name], 40, 4096, 0.7
    t = jnp.arange(T * pieces) / pieces + 1e-3  # within a step, for rates jump at its ends
    f, g = sde.drift(sched, t).ravel(), sde.diffusion_coefficient(sched, t).ravel()
    h = 1.0 / pieces

    def move(x, i):
        z = jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (count,))
        return x + h * f[i] * x + math.sqrt(h) * g[i] * z, x

    last, seen = jax.lax.scan(move, jnp.full(count, x_0), jnp.arange(T * pieces))
    at = np.array([1, 7, 40, 100])
    signal, sigma = kernel(sched, jnp.asarray(at))
    seen = np.concatenate([seen, last[None]])[at * pieces]
    assert (np.abs(seen.mean(1) - x_0 * signal) < 4 * sigma / 64 + 0.01 * signal).all()
    np.testing.assert_allclose(seen.std(1), sigma, rtol=4 / (64 * 2**0.5) + 0.02)


@every_process
def test_between_whole_times_the_marginals_are_of_one_process(name, x64):
    sched, x = PROCESSES[name], jnp.full((4, 1, 1, 1), 0.3)
    whole, floats = jnp.array([1, 2, 50, T]), jnp.array([1.0, 2.0, 50.0, T])
    for each in (diffusion.signal, diffusion.sigma):
        np.testing.assert_allclose(each(sched, floats), each(sched, whole), rtol=1e-7)
    t = jnp.array([0.01, 0.5, 33.3, 99.9])
    x_t = diffusion.q_sample(sched, x, t, 2.0 * x)
    np.testing.assert_allclose(diffusion.x_0_from_eps(sched, x_t, 2.0 * x, t), x, rtol=1e-6)
    np.testing.assert_allclose(diffusion.eps_from_x_0(sched, x_t, x, t), 2.0 * x, rtol=1e-6)


@some_now("vp", "sub_vp", "ve", now=["ve"])
def test_predictor_corrector_draws_a_mixture_of_gaussians(name):
    sched = PROCESSES[name]
    times = sde_solvers.predictor_corrector_path(sched, T, 1)
    check_moments(sampled(sched, steps.lift(sde_solvers.predictor_corrector(0.16)), times), 0.02)


@some_now("vp", "ve", now=["vp"])
def test_euler_maruyama_draws_a_mixture_of_gaussians(name):
    sched = PROCESSES[name]
    times = spacing.linear(T, T)
    check_moments(sampled(sched, steps.lift(sde_solvers.euler_maruyama()), times), 0.02)


def test_annealed_langevin_draws_a_mixture_of_gaussians():
    """NCSN's ten levels, each long enough to forget where it began."""
    sched = sde.ve(10, 0.02, 2.0)
    times = sde_solvers.annealed_langevin_path(sched, 10, 100)
    check_moments(sampled(sched, steps.lift(sde_solvers.annealed_langevin(0.1)), times), 0.03)


def test_annealed_langevin_s_step_is_algorithm_1():
    """At level i: x + alpha_i / 2 score + sqrt(alpha_i) z, alpha_i = epsilon sigma_i^2 / sigma_L^2; x in VE."""
    sched, epsilon = sde.ve(10, 0.01, 1.0), 2e-5
    sigmas = np.geomspace(1.0, 0.01, 10)
    x, x_0, z = (jax.random.normal(jax.random.key(i), (10, 2, 2, 1)) for i in range(3))
    t = jnp.arange(10, 0, -1)
    x = sigmas[:, None, None, None] * x
    alpha = (epsilon * sigmas**2 / sigmas[-1] ** 2)[:, None, None, None]
    score = (x_0 - x) / sigmas[:, None, None, None] ** 2
    expected = x + 0.5 * alpha * score + np.sqrt(alpha) * z
    step = sde_solvers.annealed_langevin(epsilon / 0.01**2)
    found = step(sched, x / sde.scale(sched, t), Denoised(x_0), t, t, z)
    np.testing.assert_allclose(sde.scale(sched, t) * found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ve", "linear"])
def test_the_predictor_is_that_of_algorithms_2_and_3(name, x64):
    sched = PROCESSES[name]
    x_t, x_0, z = (jax.random.normal(jax.random.key(i), (3, 2, 2, 1)) for i in range(3))
    t = jnp.array([2, 40, 100])
    step = sde_solvers.predictor_corrector(0.16)
    found = step(sched, x_t, Denoised(x_0), t, t - 1, z)
    score = sde_solvers.score(sched, x_t, x_0, t)
    if name == "linear":
        beta = diffusion.at(sched.beta, t)
        expected = (2.0 - jnp.sqrt(1.0 - beta)) * x_t + beta * score + jnp.sqrt(beta) * z
    else:
        scale, sigma = sde.scale(sched, t), diffusion.at(process_sigma(sched), t)
        gap = sigma**2 - diffusion.at(process_sigma(sched), t - 1) ** 2
        x = scale * x_t + gap * score + jnp.sqrt(gap) * z
        expected = x / sde.scale(sched, t - 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["ve", "linear"])
def test_the_corrector_is_that_of_algorithms_4_and_5(name, x64):
    """eps = 2 alpha (r |z| / |g|)^2, x + eps g + sqrt(2 eps) z; alpha is 1 with VE, 1 - beta with VP."""
    sched, r = PROCESSES[name], 0.16
    x_t, x_0, z = (jax.random.normal(jax.random.key(i), (3, 2, 2, 1)) for i in range(3))
    t = jnp.array([2, 40, 100])
    found = sde_solvers.predictor_corrector(r)(sched, x_t, Denoised(x_0), t, t, z)
    scale = sde.scale(sched, t)
    g = sde_solvers.score(sched, x_t, x_0, t)
    for i in range(3):
        alpha = 1.0 if name == "ve" else 1.0 - sched.beta[int(t[i])]
        eps = 2.0 * alpha * (r * jnp.linalg.norm(z[i]) / jnp.linalg.norm(g[i])) ** 2
        expected = scale[i] * x_t[i] + eps * g[i] + jnp.sqrt(2.0 * eps) * z[i]
        np.testing.assert_allclose(scale[i] * found[i], expected, rtol=1e-6)


def process_sigma(sched):
    return np.sqrt(1.0 / sched.alpha_bar - 1.0)


def test_paths_stay_at_a_time_as_often_as_asked():
    sched = diffusion.linear(4, 1e-3, 0.2)
    path = sde_solvers.predictor_corrector_path(sched, 4, 2)
    assert path.tolist() == [4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 0]
    assert sde_solvers.annealed_langevin_path(sched, 2, 3).tolist() == [4, 4, 4, 1, 1, 1, 1, 0]


def test_every_visit_to_a_time_has_noise_of_its_own_and_the_first_what_it_always_had():
    sched, times = diffusion.linear(4, 1e-3, 0.2), jnp.array([4, 3, 3, 3, 2, 2, 0])
    numbers = [int(loop.noise_number(sched, times, jnp.array(i))) for i in range(6)]
    assert len(set(numbers)) == 6 and sched.T + 1 not in numbers
    assert [numbers[i] for i in (0, 1, 4)] == [4, 3, 2]


def test_the_likelihood_weighting_is_the_bound_s_terms_in_short_steps(x64):
    """On a schedule of ten times as many steps; a network that says 0.1 x_t."""
    sched = diffusion.linear(10_000, 1e-5, 2e-3)
    x_0, eps = (jax.random.normal(jax.random.key(i), (3, 2, 2, 1)) for i in range(2))
    t = jnp.array([200, 3000, 9000])
    network = lambda x_t, t: 0.1 * x_t  # noqa: E731
    terms = objective.vlb(
        parameterization.eps,
        parameterization.fixed_small,
        256,
        diffusion.discretized_log_likelihood,
    )(sched, network, x_0, t, eps)
    weighted = objective.likelihood_weighted(parameterization.eps)
    nats = weighted(sched, network, x_0, t, eps)
    np.testing.assert_allclose(nats / math.log(2.0), terms, rtol=0.01)
    # g^2 = lambda: its ratio to the squared error of eps is beta / (2 sigma^2)
    simple = objective.simple(parameterization.eps)(sched, network, x_0, t + 0.5, eps)
    between = weighted(sched, network, x_0, t + 0.5, eps)
    rate, sigma = sde.rate(sched, t + 0.5), diffusion.sigma(sched, t + 0.5)
    np.testing.assert_allclose(between / simple, (0.5 * rate / sigma**2).ravel(), rtol=1e-6)
