"""Samplers of the reverse SDE: Song et al. 2021 (arXiv:2011.13456), Sec. 4 and App. G; NCSN's Langevin dynamics.

Each is a Step with one network evaluation. The steps move in the process's own coordinates and end in
x_0-hat, Tweedie's formula, as App. G advises. A step from t to t moves at one noise level.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Num

from ddpm_jax import diffusion, sde
from ddpm_jax.diffusion import Coefficient, Images, Schedule, Steps
from ddpm_jax.parameterization import Denoised
from ddpm_jax.samplers import spacing
from ddpm_jax.samplers.spacing import Path, Spacing
from ddpm_jax.samplers.steps import Plan, Solver, Step, lift


def score(sched: Schedule, x_t: Images, x_0: Images, t: Steps) -> Images:
    """Returns grad log q(x_t) in the process's own coordinates; x_t is in the network's."""
    eps = diffusion.eps_from_x_0(sched, x_t, x_0, t)
    return -eps / (diffusion.sigma(sched, t) * sde.scale(sched, t))


def column(
    values: Num[Array, " b"] | Bool[Array, " b"],
) -> Num[Array, "b 1 1 1"] | Bool[Array, "b 1 1 1"]:
    """Shapes one value per image to broadcast over height, width and channels."""
    return values[:, None, None, None]


def end_in_x_0(s: Steps, out: Denoised, x_s: Images) -> Images:
    """Replaces x_s by x_0-hat where s = 0."""
    return jnp.where(column(s == 0), out.x_0, x_s)


def euler_maruyama() -> Step:
    """Euler-Maruyama steps of the reverse SDE dx = (f x - g^2 score) dt + g dw. Eq. 6."""

    def step(
        sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
    ) -> Images:
        x, h = sde.scale(sched, t) * x_t, column(t - s).astype(x_t.dtype)
        f, g = sde.drift(sched, t), sde.diffusion_coefficient(sched, t)
        reverse_drift = f * x - g**2 * score(sched, x_t, out.x_0, t)
        x_s = (x - h * reverse_drift + g * jnp.sqrt(h) * noise) / sde.scale(sched, s)
        return end_in_x_0(s, out, x_s)

    return step


def reverse_diffusion(
    sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
) -> Images:
    """The predictor of Algorithms 2 (VE) and 3 (VP), as one formula. App. E.

    A forward step x_t = m x_s + sqrt(v) z is reversed by x_s = (2 - m) x_t + v score + sqrt(v) z. For VE,
    m = 1 and v = sigma_t^2 - sigma_s^2; for VP, m = sqrt(1 - beta) and v = beta.
    """
    m, v = sde.transition(sched, t, s)
    x = sde.scale(sched, t) * x_t
    x_s = (2.0 - m) * x + v * score(sched, x_t, out.x_0, t) + jnp.sqrt(v) * noise
    return x_s / sde.scale(sched, s)


def norm(x: Images) -> Coefficient:
    return jnp.sqrt(jnp.sum(x**2, axis=(1, 2, 3), keepdims=True))


def corrector(
    sched: Schedule, x_t: Images, out: Denoised, t: Steps, noise: Images, snr: float
) -> Images:
    """A Langevin update at t, of step size 2 alpha (snr |z| / |score|)^2. Algorithms 4 and 5.

    alpha is 1 for VE, 1 - beta for VP. The norms are each image's own, where the authors' code has means
    over the batch, so that an image does not depend on the others.
    """
    alpha = sde.transition(sched, t, t - 1)[0] ** 2
    gradient = score(sched, x_t, out.x_0, t)
    size = 2.0 * alpha * (snr * norm(noise) / jnp.maximum(norm(gradient), 1e-12)) ** 2
    update = size * gradient + jnp.sqrt(2.0 * size) * noise
    return x_t + update / sde.scale(sched, t)


def predictor_corrector(snr: float) -> Step:
    """Algorithm 1 of Song et al. 2021: a step from t to s < t is the predictor, from t to t the corrector."""

    def step(
        sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
    ) -> Images:
        # Where t == s the predictor is discarded, but it must be finite.
        earlier = jnp.minimum(s, t - 1)
        predicted = reverse_diffusion(sched, x_t, out, t, earlier, noise)
        corrected = corrector(sched, x_t, out, t, noise, snr)
        return end_in_x_0(s, out, jnp.where(column(t == s), corrected, predicted))

    return step


def predictor_corrector_path(sched: Schedule, steps: int, corrections: int) -> Path:
    """Repeats each time but T and 0 'corrections' times: T, T - 1, T - 1, ..., 1, 1, 0."""
    times = spacing.linear(sched.T, steps)
    visits = np.full(len(times), 1 + corrections)
    visits[[0, -1]] = 1
    return np.repeat(times, visits)


def annealed_langevin(step_size: float) -> Step:
    """Algorithm 1 of Song & Ermon 2019 (arXiv:1907.05600), in x~ = x_t / sqrt(alpha_bar_t), of noise sigma~.

    An update is x~ + alpha_i / 2 score + sqrt(alpha_i) z with alpha_i = 'step_size' sigma~^2; the next
    level starts from its result. Unlike the algorithm, the last step removes the remaining noise.
    """

    def step(
        sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
    ) -> Images:
        level = diffusion.at(spacing.noise_level(sched), t)
        eps = diffusion.eps_from_x_0(sched, x_t, out.x_0, t)
        update = -0.5 * step_size * level * eps + jnp.sqrt(step_size) * level * noise
        x = x_t / diffusion.signal(sched, t) + update
        return end_in_x_0(s, out, diffusion.signal(sched, s) * x)

    return step


def annealed_langevin_path(sched: Schedule, steps: int, updates: int) -> Path:
    """'steps' noise levels nearest to a geometric sequence, each for 'updates' steps, then 1 and 0."""
    level = spacing.noise_level(sched)
    times = spacing.nearest(sched, np.geomspace(level[-1], level[1], steps))
    return np.append(np.repeat(times, updates), [1, 0]).astype(np.int32)


def plan_euler_maruyama(sched: Schedule, steps: int, *, spacing: Spacing) -> Plan:
    sampler = lift(euler_maruyama())
    return Plan(sampler=sampler, times=spacing(sched.T, steps), name=f"euler_maruyama-{steps}")


def plan_predictor_corrector(sched: Schedule, steps: int, *, corrections: int, snr: float) -> Plan:
    """Plans predictor steps, each followed by 'corrections' Langevin updates of signal-to-noise ratio 'snr'.

    The paper uses 1 and 0.16.
    """
    return Plan(
        sampler=lift(predictor_corrector(snr)),
        times=predictor_corrector_path(sched, steps, corrections),
        name=f"predictor_corrector-{steps}-{corrections}x{snr:g}",
    )


def plan_annealed_langevin(sched: Schedule, steps: int, *, updates: int, step_size: float) -> Plan:
    """Plans 'updates' steps of size 'step_size', epsilon / sigma_L^2, at each of 'steps' noise levels.

    The paper uses 100 and 0.2.
    """
    return Plan(
        sampler=lift(annealed_langevin(step_size)),
        times=annealed_langevin_path(sched, steps, updates),
        name=f"annealed_langevin-{steps}-{updates}x{step_size:g}",
    )


SOLVERS = {
    "euler_maruyama": Solver(plan_euler_maruyama, needs_score=True),
    "predictor_corrector": Solver(plan_predictor_corrector, needs_score=True),
    "annealed_langevin": Solver(plan_annealed_langevin, needs_score=True),
}
