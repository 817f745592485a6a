"""Solvers of the probability-flow ODE: fast ones, of 10 to 50 network evaluations instead of 1000, and an adaptive one.

The ODE is dx~/dsigma~ = (x~ - x_0-hat) / sigma~ in the variance-exploding variables x~ = x_t / sqrt(alpha_bar_t)
and sigma~ = sqrt(1 / alpha_bar_t - 1). Its marginals are those of q, and its Euler method is DDIM with
eta = 0. The solvers ignore the noise that the loop offers them.
"""

import jax.numpy as jnp
import numpy as np

from ddpm_jax import diffusion
from ddpm_jax.diffusion import Coefficient, Schedule, Steps
from ddpm_jax.samplers import probability_flow, spacing
from ddpm_jax.samplers.spacing import Spacing
from ddpm_jax.samplers.steps import Plan, Sampler, Solver


def noise_level(sched: Schedule, t: Steps) -> Coefficient:
    """Returns sigma~_t of each image."""
    return diffusion.at(spacing.noise_level(sched), t)


def half_log_snr(sched: Schedule, t: Steps) -> Coefficient:
    """lambda_t = -log sigma~_t of Lu et al. 2022; a large finite number at t = 0, where it is infinite."""
    return diffusion.at(-np.log(np.maximum(spacing.noise_level(sched), 1e-30)), t)


def dpm_solver() -> Sampler:
    """DPM-Solver++(2M): Lu et al. 2022 (arXiv:2211.01095), Algorithm 2.

    Second order with one network evaluation per step: x_0-hat is extrapolated from the last two
    evaluations. The first step, which has only one, and the last, which ends in x_0-hat, are first order.
    """

    def step(sched, denoiser, x_t, t, s, noise, carry):
        previous_x_0, previous_t = carry  # previous_t is 0 before the first step
        x_0 = denoiser(x_t, t).x_0
        h = half_log_snr(sched, s) - half_log_snr(sched, t)
        previous_h = half_log_snr(sched, t) - half_log_snr(sched, previous_t)
        is_first_order = ((previous_t == 0) | (s == 0))[:, None, None, None]
        half_ratio = jnp.where(
            is_first_order, 0.0, 0.5 * h / jnp.where(is_first_order, 1.0, previous_h)
        )
        extrapolated = x_0 + half_ratio * (x_0 - previous_x_0)  # D_i of Algorithm 2
        ratio = diffusion.sigma(sched, s) / diffusion.sigma(sched, t)
        x_s = ratio * x_t - diffusion.signal(sched, s) * jnp.expm1(-h) * extrapolated
        return x_s, (x_0, t)

    def init(x_T):
        return jnp.zeros_like(x_T), jnp.zeros(x_T.shape[:1], jnp.int32)

    return Sampler(init=init, step=step)


def heun() -> Sampler:
    """Heun's method: Karras et al. 2022 (arXiv:2206.00364), Algorithm 1.

    Second order with two network evaluations per step. The step to t = 0 is Euler's, which ends in x_0-hat.
    """

    def step(sched, denoiser, x_t, t, s, noise, carry):
        level_t, level_s = noise_level(sched, t), noise_level(sched, s)
        x = x_t / diffusion.signal(sched, t)
        slope_t = (x - denoiser(x_t, t).x_0) / level_t
        euler = x + (level_s - level_t) * slope_t
        is_last = (s == 0)[:, None, None, None]
        # The network is not defined at t = 0; what it returns for t = 1 instead is discarded.
        x_0 = denoiser(diffusion.signal(sched, s) * euler, jnp.maximum(s, 1)).x_0
        slope_s = jnp.where(is_last, slope_t, (euler - x_0) / jnp.where(is_last, 1.0, level_s))
        x_s = x + (level_s - level_t) * 0.5 * (slope_t + slope_s)
        return diffusion.signal(sched, s) * x_s, carry

    return Sampler(init=lambda x_T: (), step=step)


def inversion() -> Sampler:
    """DDIM with eta = 0 run towards more noise, images to latents: Song et al. 2021 (arXiv:2010.02502), Sec. 4.3.

    Euler's method again, so DDIM decodes the latents up to the error of the steps. The network is not
    defined at t = 0, so the first step evaluates it at t = 1.
    """

    def step(sched, denoiser, x_t, t, s, noise, carry):
        network_t = jnp.maximum(t, 1)
        eps = diffusion.eps_from_x_0(sched, x_t, denoiser(x_t, network_t).x_0, network_t)
        level_t, level_s = noise_level(sched, t), noise_level(sched, s)
        x = x_t / diffusion.signal(sched, t) + (level_s - level_t) * eps
        return diffusion.signal(sched, s) * x, carry

    return Sampler(init=lambda x_T: (), step=step)


def ode() -> Sampler:
    """The probability-flow ODE from T to t_min in one step, solved adaptively, then x_0-hat.

    Song et al. 2021 (arXiv:2011.13456), Eq. 13.
    """

    def step(sched, denoiser, x_t, t, s, noise, carry):
        x = probability_flow.decode(sched, denoiser, x_t)
        return denoiser(x, jnp.full(x.shape[:1], probability_flow.T_MIN)).x_0, carry

    return Sampler(init=lambda x_T: (), step=step)


def plan_dpm_solver(sched: Schedule, steps: int, *, spacing: Spacing) -> Plan:
    return Plan(sampler=dpm_solver(), times=spacing(sched.T, steps), name=f"dpm_solver-{steps}")


def plan_heun(sched: Schedule, steps: int) -> Plan:
    return Plan(sampler=heun(), times=spacing.karras(sched, steps), name=f"heun-{steps}")


def plan_ode(sched: Schedule, steps: int) -> Plan:
    """Ignores 'steps': the solver is adaptive."""
    return Plan(sampler=ode(), times=spacing.linear(sched.T, 1), name="ode")


SOLVERS = {
    "dpm_solver": Solver(plan_dpm_solver),
    "heun": Solver(plan_heun),
    "ode": Solver(plan_ode, takes_labels=False, needs_score=True),
}
