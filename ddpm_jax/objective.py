"""Per-example losses and the terms of the variational bound: Sections 2, 3.3 and 3.4."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ddpm_jax import diffusion, parameterization
from ddpm_jax.diffusion import Images, PerImage, Schedule, Steps, Times
from ddpm_jax.parameterization import Denoised, Network, Parameterization, Variance

Objective = Callable[[Schedule, Network, Images, Steps, Images], PerImage]
LAMBDA = 0.001  # what the bound weighs in L_hybrid
LogLikelihood = Callable[[Images, Array, Array, int], Images]


def per_image(values: Images) -> PerImage:
    return values.mean(axis=(1, 2, 3))


def bits_per_dim(nats: Images) -> PerImage:
    return per_image(nats) / math.log(2.0)


def simple(parameterization_: Parameterization) -> Objective:
    """The mean squared error of what the network outputs.

    Of eps it is L_simple, Eq. 14; of x_prev, Table 2's row "||mu-tilde - mu_theta||^2".
    """

    def loss(sched: Schedule, network: Network, x_0: Images, t: Times, eps: Images) -> PerImage:
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        target = parameterization_.target(sched, x_0, x_t, eps, t)
        return per_image((target - network(x_t, t)) ** 2)

    return loss


def vlb(
    parameterization_: Parameterization,
    variance: Variance,
    levels: int,
    log_likelihood: LogLikelihood,
) -> Objective:
    """The bound's term at t in bits/dim: "L" of Table 2, Eqs. 5 and 12, without clipping x_0.

    As in the release it is not multiplied by T, so its mean over t is the bound over T, less L_T.
    """

    def loss(sched: Schedule, network: Network, x_0: Images, t: Steps, eps: Images) -> PerImage:
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        out = parameterization.denoised(parameterization_, sched, network(x_t, t), x_t, t)
        return bound_term(sched, variance, out, x_0, x_t, t, levels, log_likelihood)

    return loss


def hybrid(
    parameterization_: Parameterization,
    variance: Variance,
    levels: int,
    log_likelihood: LogLikelihood,
) -> Objective:
    """L_simple + lambda L_vlb: Nichol and Dhariwal 2021, Eq. 16, where the bound trains the variance only.

    L_vlb is a sum over t, so its term, in bits/dim as in their release, counts T times.
    """

    def loss(sched: Schedule, network: Network, x_0: Images, t: Steps, eps: Images) -> PerImage:
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        output = network(x_t, t)
        mean, fraction = jnp.split(output, 2, axis=-1)
        target = parameterization_.target(sched, x_0, x_t, eps, t)
        still = jnp.concatenate([jax.lax.stop_gradient(mean), fraction], axis=-1)
        out = parameterization.denoised(parameterization_, sched, still, x_t, t)
        bound = bound_term(sched, variance, out, x_0, x_t, t, levels, log_likelihood)
        return per_image((target - mean) ** 2) + LAMBDA * sched.T * bound

    return loss


def classification() -> Objective:
    """-log p(label | x_t), the cross-entropy of a classifier of noisy images; its network says log p."""

    def loss(sched: Schedule, network: Network, x_0: Images, t: Times, eps: Images) -> PerImage:
        return -network(diffusion.q_sample(sched, x_0, t, eps), t)

    return loss


def bound_term(
    sched: Schedule,
    variance: Variance,
    out: Denoised,
    x_0: Images,
    x_t: Images,
    t: Steps,
    levels: int,
    log_likelihood: LogLikelihood = diffusion.discretized_log_likelihood,
) -> PerImage:
    """L_{t-1} in bits/dim: for t > 1 a KL divergence, at t = 1 the decoder. Eqs. 5 and 13.

    Its sum over t = 1..T, with prior_term, is the bound.
    """
    s = t - 1
    mean, log_variance = parameterization.reverse(sched, variance, out, x_t, t, s)
    posterior_mean = diffusion.q_posterior_mean(sched, x_0, x_t, t, s)
    posterior = parameterization.fixed_small(sched, out, t, s)
    kl = diffusion.normal_kl(posterior_mean, posterior, mean, log_variance)
    decoder = -log_likelihood(x_0, mean, log_variance, levels)
    first = (t == 1)[:, None, None, None]
    return bits_per_dim(jnp.where(first, decoder, kl))


def prior_term(sched: Schedule, x_0: Images) -> PerImage:
    """L_T in bits/dim. Eq. 5."""
    return bits_per_dim(diffusion.prior_kl(sched, x_0))
