"""Fast solvers of the probability-flow ODE: 10 to 50 network evaluations instead of 1000.

Both solve dx~/dsigma~ = (x~ - x_0-hat) / sigma~, the ODE whose marginals are q's, in x~ = x_t / sqrt(alpha_bar_t)
and sigma~ = sqrt(1 / alpha_bar_t - 1), the variance-exploding change of variables; DDIM with eta = 0 is
its Euler method. They take no noise, and are samplers for 'sampling.program'.
"""

import jax.numpy as jnp
import numpy as np

from ddpm_jax import diffusion
from ddpm_jax.diffusion import Coefficient, Schedule, Steps
from ddpm_jax.samplers import spacing
from ddpm_jax.samplers.spacing import Spacing
from ddpm_jax.samplers.steps import Plan, Sampler, Solver


def minus_log(sched: Schedule, t: Steps) -> Coefficient:
    """log sigma~_t = -lambda_t of Lu et al.; at t = 0, where it is -infinity, a number that is far off."""
    return diffusion.at(np.log(np.maximum(spacing.noise_level(sched), 1e-30)), t)


def dpm_solver() -> Sampler:
    """DPM-Solver++(2M): Lu et al. 2022 (arXiv:2211.01095), Algorithm 2. One look a step, order 2.

    x_0-hat is carried on along the line through the last two; the first step has but one, and the step to
    t = 0 takes one, as x_0-hat is where it ends.
    """

    def step(sched, denoiser, x_t, t, s, noise, carry):
        before, last = carry  # x_0-hat of the step before, and its t; 0 where there was none
        x_0 = denoiser(x_t, t).x_0
        h = minus_log(sched, t) - minus_log(sched, s)
        h_before = minus_log(sched, last) - minus_log(sched, t)
        is_first_order = ((last == 0) | (s == 0))[:, None, None, None]
        slope = jnp.where(is_first_order, 0.0, 0.5 * h / jnp.where(is_first_order, 1.0, h_before))
        towards = x_0 + slope * (x_0 - before)
        ratio = diffusion.sigma(sched, s) / diffusion.sigma(sched, t)
        x_s = ratio * x_t - diffusion.signal(sched, s) * jnp.expm1(-h) * towards
        return x_s, (x_0, t)

    def init(x_T):
        return jnp.zeros_like(x_T), jnp.zeros(x_T.shape[:1], jnp.int32)

    return Sampler(init, step)


def heun() -> Sampler:
    """Heun's method: Karras et al. 2022 (arXiv:2206.00364), Algorithm 1. Two looks a step, order 2.

    The step to t = 0 is Euler's, which ends in x_0-hat.
    """

    def step(sched, denoiser, x_t, t, s, noise, carry):
        level_t, level_s = (diffusion.at(spacing.noise_level(sched), each) for each in (t, s))
        x = x_t / diffusion.signal(sched, t)
        slope = (x - denoiser(x_t, t).x_0) / level_t
        euler = x + (level_s - level_t) * slope
        is_last = (s == 0)[:, None, None, None]
        # At t = 0 the network knows nothing: what it is asked there is not used.
        there = denoiser(diffusion.signal(sched, s) * euler, jnp.maximum(s, 1)).x_0
        other = jnp.where(is_last, slope, (euler - there) / jnp.where(is_last, 1.0, level_s))
        x_s = x + (level_s - level_t) * 0.5 * (slope + other)
        return diffusion.signal(sched, s) * x_s, carry

    return Sampler(lambda x_T: (), step)


def inversion() -> Sampler:
    """DDIM with eta = 0 towards more noise, images to latents: Song et al. 2021 (arXiv:2010.02502), Sec. 4.3.

    Euler's method again, so that decoding by DDIM undoes it up to the steps' error. At t = 0, where the
    network knows nothing, it is asked about t = 1.
    """

    def step(sched, denoiser, x_t, t, s, noise, carry):
        asked = jnp.maximum(t, 1)
        eps = diffusion.eps_from_x_0(sched, x_t, denoiser(x_t, asked).x_0, asked)
        level_t, level_s = (diffusion.at(spacing.noise_level(sched), each) for each in (t, s))
        x = x_t / diffusion.signal(sched, t) + (level_s - level_t) * eps
        return diffusion.signal(sched, s) * x, carry

    return Sampler(lambda x_T: (), step)


def plan_dpm_solver(sched: Schedule, steps: int, *, spacing: Spacing) -> Plan:
    return Plan(dpm_solver(), times=spacing(sched.T, steps), name=f"dpm_solver-{steps}")


def plan_heun(sched: Schedule, steps: int) -> Plan:
    return Plan(heun(), times=spacing.karras(sched, steps), name=f"heun-{steps}")


SOLVERS = {"dpm_solver": Solver(plan_dpm_solver), "heun": Solver(plan_heun)}
