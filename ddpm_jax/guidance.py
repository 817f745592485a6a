"""From what a network says about x_t to what one wants to hear: a Denoiser into a Denoiser."""

from ddpm_jax.diffusion import Images, Steps
from ddpm_jax.parameterization import Denoised, Denoiser


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
