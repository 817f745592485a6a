"""Samplers of the reverse SDE: Song et al. 2021 (arXiv:2011.13456), Sec. 4 and App. G; NCSN's Langevin dynamics.

All are steps that ask the network once. They move in the process's own coordinates, and end in x_0-hat,
Tweedie's formula, as App. G advises. A step from t to t itself moves at one noise level.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Real

from ddpm_jax import diffusion, sde
from ddpm_jax.diffusion import Coefficient, Images, Schedule, Steps
from ddpm_jax.parameterization import Denoised
from ddpm_jax.samplers import probability_flow, spacing
from ddpm_jax.samplers.spacing import Spacing
from ddpm_jax.samplers.steps import Plan, Sampler, Solver, Step, lift

Path = Int[np.ndarray, " n"]


def score(sched: Schedule, x_t: Images, x_0: Images, t: Steps) -> Images:
    """grad log q(x_t) in the process's own coordinates, x_t in the network's."""
    eps = diffusion.eps_from_x_0(sched, x_t, x_0, t)
    return -eps / (diffusion.sigma(sched, t) * sde.scale(sched, t))


def column(values: Real[Array, " b"] | Bool[Array, " b"]):
    return values[:, None, None, None]


def where_it_ends(s: Steps, out: Denoised, x_s: Images) -> Images:
    return jnp.where(column(s == 0), out.x_0, x_s)


def euler_maruyama() -> Step:
    """Of the reverse SDE dx = (f x - g^2 score) dt + g dw. Eq. 6."""

    def step(
        sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
    ) -> Images:
        x, h = sde.scale(sched, t) * x_t, column(t - s).astype(x_t.dtype)
        f, g = sde.drift(sched, t), sde.diffusion_coefficient(sched, t)
        back = f * x - g**2 * score(sched, x_t, out.x_0, t)
        x_s = (x - h * back + g * jnp.sqrt(h) * noise) / sde.scale(sched, s)
        return where_it_ends(s, out, x_s)

    return step


def reverse_diffusion(
    sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
) -> Images:
    """The predictor of Algorithm 2 (VE) and Algorithm 3 (VP), one formula in x_t = m x_s + sqrt(v) z. App. E.

    x_s = (2 - m) x_t + v score + sqrt(v) z. With VE m is 1 and v = sigma_t^2 - sigma_s^2; with VP, beta.
    """
    m, v = sde.transition(sched, t, s)
    x = sde.scale(sched, t) * x_t
    x_s = (2.0 - m) * x + v * score(sched, x_t, out.x_0, t) + jnp.sqrt(v) * noise
    return x_s / sde.scale(sched, s)


def norm(x: Images) -> Coefficient:
    return jnp.sqrt(jnp.sum(x**2, axis=(1, 2, 3), keepdims=True))


def corrector(sched: Schedule, x_t: Images, out: Denoised, t: Steps, noise: Images, snr: float):
    """A Langevin update at t, Algorithms 4 and 5: its size is 2 alpha (snr |z| / |score|)^2.

    The norms are the image's own, not means over the batch as the authors' code has, so that an image
    does not depend on the others. alpha is 1 with VE, 1 - beta with VP.
    """
    alpha = sde.transition(sched, t, t - 1)[0] ** 2
    gradient = score(sched, x_t, out.x_0, t)
    size = 2.0 * alpha * (snr * norm(noise) / jnp.maximum(norm(gradient), 1e-12)) ** 2
    moved = size * gradient + jnp.sqrt(2.0 * size) * noise
    return x_t + moved / sde.scale(sched, t)


def predictor_corrector(snr: float) -> Step:
    """Algorithm 1 of Song et al. 2021: from t to s < t the predictor, from t to t the corrector."""

    def step(
        sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
    ) -> Images:
        before = jnp.minimum(s, t - 1)  # where t is s the predictor is not used; keep it finite
        predicted = reverse_diffusion(sched, x_t, out, t, before, noise)
        corrected = corrector(sched, x_t, out, t, noise, snr)
        return where_it_ends(s, out, jnp.where(column(t == s), corrected, predicted))

    return step


def predictor_corrector_path(sched: Schedule, steps: int, corrections: int) -> Path:
    """Every time but T and 0 is stayed at for 'corrections' more steps: T, T - 1, T - 1, ..., 1, 1, 0."""
    times = spacing.path(sched.T, steps)
    stays = np.full(len(times), 1 + corrections)
    stays[[0, -1]] = 1
    return np.repeat(times, stays)


def annealed_langevin(step_size: float) -> Step:
    """Algorithm 1 of Song & Ermon 2019 (arXiv:1907.05600), in x_t / sqrt(alpha_bar_t), whose noise is sigma~.

    An update is x~ + alpha_i / 2 score + sqrt(alpha_i) z with alpha_i = 'step_size' sigma~^2; the next begins
    where it ends, at its own level. Beyond the algorithm, the last step removes the noise that is left.
    """

    def step(
        sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
    ) -> Images:
        level = diffusion.at(spacing.noise_level(sched), t)
        eps = diffusion.eps_from_x_0(sched, x_t, out.x_0, t)
        moved = -0.5 * step_size * level * eps + jnp.sqrt(step_size) * level * noise
        x = x_t / diffusion.signal(sched, t) + moved
        return where_it_ends(s, out, diffusion.signal(sched, s) * x)

    return step


def annealed_langevin_path(sched: Schedule, steps: int, updates: int) -> Path:
    """'steps' noise levels as near to a geometric sequence as there are, each for 'updates' steps, and 1, 0."""
    level = spacing.noise_level(sched)
    times = spacing.nearest(sched, np.geomspace(level[-1], level[1], steps))
    return np.append(np.repeat(times, updates), [1, 0]).astype(np.int32)


def ode() -> Sampler:
    """The probability-flow ODE from T to t_min in one step, of as many looks as its accuracy takes. Eq. 13."""

    def step(sched, denoiser, x_t, t, s, noise, carry):
        x = probability_flow.decode(sched, denoiser, x_t)
        return denoiser(x, jnp.full(x.shape[:1], probability_flow.T_MIN)).x_0, carry

    return Sampler(lambda x_T: (), step)


def plan_euler_maruyama(sched: Schedule, steps: int, *, spacing: Spacing) -> Plan:
    sampler = lift(euler_maruyama())
    return Plan(sampler, times=spacing(sched.T, steps), name=f"euler_maruyama-{steps}")


def plan_predictor_corrector(sched: Schedule, steps: int, *, corrections: int, snr: float) -> Plan:
    """Follows each step of the predictor by 'corrections' Langevin updates of size r = 'snr'.

    The paper takes 1 and 0.16.
    """
    return Plan(
        lift(predictor_corrector(snr)),
        times=predictor_corrector_path(sched, steps, corrections),
        name=f"predictor_corrector-{steps}-{corrections}x{snr:g}",
    )


def plan_annealed_langevin(sched: Schedule, steps: int, *, updates: int, step_size: float) -> Plan:
    """Makes 'updates' of size 'step_size', epsilon / sigma_L^2, at each of 'steps' noise levels.

    The paper takes 100 and 0.2.
    """
    return Plan(
        lift(annealed_langevin(step_size)),
        times=annealed_langevin_path(sched, steps, updates),
        name=f"annealed_langevin-{steps}-{updates}x{step_size:g}",
    )


def plan_ode(sched: Schedule, steps: int) -> Plan:
    """Ignores 'steps': the solver is adaptive."""
    return Plan(ode(), times=spacing.path(sched.T, 1), name="ode")


SOLVERS = {
    "euler_maruyama": Solver(plan_euler_maruyama, needs_score=True),
    "predictor_corrector": Solver(plan_predictor_corrector, needs_score=True),
    "annealed_langevin": Solver(plan_annealed_langevin, needs_score=True),
    "ode": Solver(plan_ode, takes_labels=False, needs_score=True),
}
