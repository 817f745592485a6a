"""From what a network says about x_t to what one wants to hear: a Denoiser into a Denoiser."""

from collections.abc import Callable

import jax

from ddpm_jax import diffusion
from ddpm_jax.diffusion import Images, PerImage, Schedule, Steps
from ddpm_jax.parameterization import Denoised, Denoiser

LogProbability = Callable[[Images, Steps], PerImage]  # log p(y | x_t), of the y that each image has
ClassifierGuidance = Callable[[float, Schedule, Denoiser, LogProbability], Denoiser]


def classifier_free(w: float, conditional: Denoiser, unconditional: Denoiser) -> Denoiser:
    """(1 + w) of what is said of the class, less w of what is said of any: Ho and Salimans 2022
    (arXiv:2207.12598), Eq. 6.

    w = 0 is the conditional model, w = -1 the unconditional one. Theirs is of eps; x_0 and the mean are
    affine in it for one x_t, so it is the same of them. The variance is the conditional model's.
    """

    def guided(x_t: Images, t: Steps) -> Denoised:
        of_class, of_any = conditional(x_t, t), unconditional(x_t, t)
        x_0 = of_class.x_0 + w * (of_class.x_0 - of_any.x_0)
        if of_class.mean is None:
            return of_class._replace(x_0=x_0)
        return of_class._replace(x_0=x_0, mean=of_class.mean + w * (of_class.mean - of_any.mean))

    return guided


def gradient(log_probability: LogProbability, x_t: Images, t: Steps) -> Images:
    """Of log p(y | x_t) by x_t, each image's own."""
    return jax.grad(lambda x_t: log_probability(x_t, t).sum())(x_t)


def shift_score(
    w: float, sched: Schedule, denoise: Denoiser, log_probability: LogProbability
) -> Denoiser:
    """eps - w sigma_t grad log p(y | x_t): Dhariwal and Nichol 2021 (arXiv:2105.05233), Algorithm 2.

    It is for what goes by x_0-hat: DDIM, ODEs and SDEs. w = 0 is the model itself, w = 1 Bayes' rule.
    """

    def guided(x_t: Images, t: Steps) -> Denoised:
        out = denoise(x_t, t)
        per_score = diffusion.sigma(sched, t) ** 2 / diffusion.signal(sched, t)
        return out._replace(x_0=out.x_0 + w * per_score * gradient(log_probability, x_t, t))

    return guided


def shift_mean(
    w: float, sched: Schedule, denoise: Denoiser, log_probability: LogProbability
) -> Denoiser:
    """mu + w Sigma grad log p(y | x_t): their Algorithm 1, for the ancestral step, which knows its Sigma."""

    def guided(x_t: Images, t: Steps) -> Denoised:
        return denoise(x_t, t)._replace(shift=w * gradient(log_probability, x_t, t))

    return guided
