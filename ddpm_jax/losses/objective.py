"""Training objectives, one loss per example: Sections 2, 3.3 and 3.4."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ddpm_jax import diffusion, sde
from ddpm_jax import parameterization as parameterizations
from ddpm_jax.diffusion import Images, PerImage, Schedule, Steps, Times
from ddpm_jax.losses import bound as bound_terms
from ddpm_jax.losses.bound import LogLikelihood
from ddpm_jax.parameterization import Network, Parameterization, Variance

# (sched, network, x_0, t, eps) -> each image's loss
Objective = Callable[[Schedule, Network, Images, Steps, Images], PerImage]
LAMBDA = 0.001  # the weight of L_vlb in L_hybrid, IDDPM's


def simple(parameterization: Parameterization) -> Objective:
    """The mean squared error of the network's output.

    For eps it is L_simple, Eq. 14; for x_prev it is Table 2's row "||mu-tilde - mu_theta||^2".
    """

    def loss(sched: Schedule, network: Network, x_0: Images, t: Times, eps: Images) -> PerImage:
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        target = parameterization.target(sched, x_0, x_t, eps, t)
        return bound_terms.mean_over_pixels((target - network(x_t, t)) ** 2)

    return loss


def vlb(
    parameterization: Parameterization,
    variance: Variance,
    levels: int,
    log_likelihood: LogLikelihood,
) -> Objective:
    """The bound's term at t in bits/dim, without clipping x_0: "L" of Table 2, Eqs. 5 and 12.

    As in the release it is not multiplied by T, so its mean over t is 1 / T of the bound without L_T.
    """

    def loss(sched: Schedule, network: Network, x_0: Images, t: Steps, eps: Images) -> PerImage:
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        out = parameterizations.read_output(parameterization, sched, network(x_t, t), x_t, t)
        return bound_terms.bound_term(sched, variance, out, x_0, x_t, t, levels, log_likelihood)

    return loss


def hybrid(
    parameterization: Parameterization,
    variance: Variance,
    levels: int,
    log_likelihood: LogLikelihood,
) -> Objective:
    """L_simple + lambda L_vlb, where L_vlb trains only the variance: Nichol and Dhariwal 2021, Eq. 16.

    L_vlb is a sum over t, so its term at t, in bits/dim as in their release, is multiplied by T.
    """

    def loss(sched: Schedule, network: Network, x_0: Images, t: Steps, eps: Images) -> PerImage:
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        output = network(x_t, t)
        mean, fraction = jnp.split(output, 2, axis=-1)
        target = parameterization.target(sched, x_0, x_t, eps, t)
        fixed_mean = jnp.concatenate([jax.lax.stop_gradient(mean), fraction], axis=-1)
        out = parameterizations.read_output(parameterization, sched, fixed_mean, x_t, t)
        bound = bound_terms.bound_term(sched, variance, out, x_0, x_t, t, levels, log_likelihood)
        return bound_terms.mean_over_pixels((target - mean) ** 2) + LAMBDA * sched.T * bound

    return loss


def classification() -> Objective:
    """-log p(label | x_t), the cross-entropy of a classifier of noisy images, whose network returns log p."""

    def loss(sched: Schedule, network: Network, x_0: Images, t: Times, eps: Images) -> PerImage:
        return -network(diffusion.q_sample(sched, x_0, t, eps), t)

    return loss


def likelihood_weighted(parameterization: Parameterization) -> Objective:
    """g^2 / 2 |score error|^2 in nats per dimension and step, lambda = g^2: arXiv:2101.09258, Theorem 1.

    Its integral over t bounds the KL divergence from data to model at t_min, up to the prior's. It is the
    limit of the bound's terms for short steps, and grows as 1 / t towards t = 0. Its value is the
    same in the process's own coordinates and the network's.
    """

    def loss(sched: Schedule, network: Network, x_0: Images, t: Times, eps: Images) -> PerImage:
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        out = parameterizations.read_output(parameterization, sched, network(x_t, t), x_t, t)
        noise = diffusion.sigma(sched, t)
        error = jnp.square(diffusion.eps_from_x_0(sched, x_t, out.x_0, t) - eps)
        return bound_terms.mean_over_pixels(0.5 * sde.rate(sched, t) / noise**2 * error)

    return loss
