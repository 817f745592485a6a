"""Steps from x_t to x_s: Algorithm 2 and DDIM; and the types that all samplers share.

A Step takes noise rather than a key, and (t, s) rather than t, so that a sampler can visit any subsequence
of T..0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from ddpm_jax import diffusion, parameterization
from ddpm_jax.diffusion import Images, Schedule, Steps
from ddpm_jax.parameterization import Denoised, Denoiser, Variance
from ddpm_jax.samplers import guidance
from ddpm_jax.samplers.guidance import ClassifierGuidance
from ddpm_jax.samplers.spacing import Spacing

Carry = Any  # what a sampler keeps from one step to the next: a pytree of arrays, or ()

# (sched, x_t, the denoiser's output, t, s, noise) -> x_s
Step = Callable[[Schedule, Images, Denoised, Steps, Steps, Images], Images]


class Sampler(NamedTuple):
    """A sampler as the loop runs it: it may carry a history, or evaluate the network twice a step."""

    init: Callable[[Images], Carry]
    step: Callable[[Schedule, Denoiser, Images, Steps, Steps, Images, Carry], tuple[Images, Carry]]


def lift(step: Step) -> Sampler:
    """Returns the sampler that evaluates the denoiser once per step and carries nothing."""

    def lifted(sched, denoiser, x_t, t, s, noise, carry):
        return step(sched, x_t, denoiser(x_t, t), t, s, noise), carry

    return Sampler(init=lambda x_T: (), step=lifted)


class Plan(NamedTuple):
    """A sampler, the times that it visits, and its name in file names."""

    sampler: Sampler
    times: Int[np.ndarray, " n"]
    name: str


class Solver(NamedTuple):
    """One value of a config's 'solver'.

    'plan' takes a schedule, a number of steps and, by keyword, its own options: 'variance', 'spacing'
    or fields of the config. Each solver is listed in SOLVERS of the file that defines its step.
    """

    plan: Callable[..., Plan]
    classifier_guidance: ClassifierGuidance = guidance.shift_score
    # False for a solver that processes images one at a time, so it cannot use a batch of labels.
    takes_labels: bool = True
    # True for a solver that needs the score, which x_0-hat determines but a predicted mean does not.
    needs_score: bool = False


def ancestral(variance: Variance) -> Step:
    """Ancestral sampling: x_s ~ p(x_s | x_t), and its mean where s = 0. Algorithm 2."""

    def step(
        sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
    ) -> Images:
        mean, log_variance = parameterization.reverse(sched, variance, out, x_t, t, s)
        std = jnp.where((s == 0)[:, None, None, None], 0.0, jnp.exp(0.5 * log_variance))
        return mean + std * noise

    return step


def ddim(eta: float) -> Step:
    """DDIM: Song et al. 2021 (arXiv:2010.02502), Eqs. 12 and 16; eta = 1 is ancestral sampling.

    Raises ValueError unless 0 <= eta <= 1.
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta is {eta}; it must lie between 0 and 1")

    def step(
        sched: Schedule, x_t: Images, out: Denoised, t: Steps, s: Steps, noise: Images
    ) -> Images:
        eps = diffusion.eps_from_x_0(sched, x_t, out.x_0, t)
        variance = eta**2 * diffusion.posterior_variance(sched, t, s)
        # The direction pointing to x_t; rounding may leave its square just below 0.
        direction = jnp.sqrt(jnp.maximum(diffusion.sigma(sched, s) ** 2 - variance, 0.0)) * eps
        return diffusion.signal(sched, s) * out.x_0 + direction + jnp.sqrt(variance) * noise

    return step


def plan_ancestral(sched: Schedule, steps: int, *, variance: Variance, spacing: Spacing) -> Plan:
    sampler = lift(ancestral(variance))
    return Plan(sampler=sampler, times=spacing(sched.T, steps), name=f"ancestral-{steps}")


def plan_ddim(sched: Schedule, steps: int, *, eta: float, spacing: Spacing) -> Plan:
    sampler = lift(ddim(eta))
    return Plan(sampler=sampler, times=spacing(sched.T, steps), name=f"ddim-{steps}-eta{eta:g}")


SOLVERS = {
    "ancestral": Solver(plan_ancestral, classifier_guidance=guidance.shift_mean),
    "ddim": Solver(plan_ddim),
}
