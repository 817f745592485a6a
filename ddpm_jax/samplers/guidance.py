"""Guidance: Denoisers that favour a class, with a classifier or without one."""

from collections.abc import Callable

import jax

from ddpm_jax import diffusion
from ddpm_jax.diffusion import Images, PerImage, Schedule, Steps
from ddpm_jax.parameterization import Denoised, Denoiser

LogProbability = Callable[[Images, Steps], PerImage]  # log p(y | x_t) of each image's own label y
ClassifierGuidance = Callable[[float, Schedule, Denoiser, LogProbability], Denoiser]


def classifier_free(w: float, conditional: Denoiser, unconditional: Denoiser) -> Denoiser:
    """(1 + w) eps(x_t, y) - w eps(x_t): Ho and Salimans 2022 (arXiv:2207.12598), Eq. 6.

    w = 0 is the conditional model, w = -1 the unconditional one. At a given x_t, x_0 and the mean are
    affine in eps, so they are extrapolated alike. The variance is the conditional model's.
    """

    def guided(x_t: Images, t: Steps) -> Denoised:
        cond, uncond = conditional(x_t, t), unconditional(x_t, t)
        x_0 = cond.x_0 + w * (cond.x_0 - uncond.x_0)
        if cond.mean is None or uncond.mean is None:
            return cond._replace(x_0=x_0)
        return cond._replace(x_0=x_0, mean=cond.mean + w * (cond.mean - uncond.mean))

    return guided


def gradient(log_probability: LogProbability, x_t: Images, t: Steps) -> Images:
    """Computes grad log p(y | x_t) with respect to x_t, for each image."""
    return jax.grad(lambda x_t: log_probability(x_t, t).sum())(x_t)


def shift_score(
    w: float, sched: Schedule, denoiser: Denoiser, log_probability: LogProbability
) -> Denoiser:
    """eps - w sigma_t grad log p(y | x_t): Dhariwal and Nichol 2021 (arXiv:2105.05233), Algorithm 2.

    For solvers that use x_0-hat: DDIM, ODEs and SDEs. w = 0 is the unguided model, w = 1 Bayes' rule.
    """

    def guided(x_t: Images, t: Steps) -> Denoised:
        out = denoiser(x_t, t)
        x_0_per_score = diffusion.sigma(sched, t) ** 2 / diffusion.signal(sched, t)
        return out._replace(x_0=out.x_0 + w * x_0_per_score * gradient(log_probability, x_t, t))

    return guided


def shift_mean(
    w: float, sched: Schedule, denoiser: Denoiser, log_probability: LogProbability
) -> Denoiser:
    """mu + w Sigma grad log p(y | x_t): Dhariwal and Nichol 2021, Algorithm 1.

    For the ancestral step, which knows its Sigma and multiplies the shift by it.
    """

    def guided(x_t: Images, t: Steps) -> Denoised:
        return denoiser(x_t, t)._replace(shift=w * gradient(log_probability, x_t, t))

    return guided
