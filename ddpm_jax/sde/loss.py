"""Weightings lambda(t) of denoising score matching in continuous time: Song et al. 2021, Eq. 7.

With sigma^2, the paper's choice, it is the mean squared error of eps, 'objective.simple' of such a network.
"""

import jax.numpy as jnp

from ddpm_jax import diffusion, parameterization
from ddpm_jax.diffusion import Images, PerImage, Schedule, Times
from ddpm_jax.objective import Objective, per_image
from ddpm_jax.parameterization import Network, Parameterization
from ddpm_jax.sde import process


def likelihood_weighted(parameterization_: Parameterization) -> Objective:
    """lambda = g^2: g^2 / 2 |score error|^2 in nats per dimension and step (arXiv:2101.09258, Theorem 1).

    Its integral over t bounds the KL divergence between data and model at t_min, up to the prior's;
    it is what the bound's terms become when steps are short, and grows as 1 / t towards t = 0. It
    is the same in the process's own coordinates and the network's.
    """

    def loss(sched: Schedule, network: Network, x_0: Images, t: Times, eps: Images) -> PerImage:
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        out = parameterization.denoised(parameterization_, sched, network(x_t, t), x_t, t)
        noise = diffusion.sigma(sched, t)
        error = jnp.square(diffusion.eps_from_x_0(sched, x_t, out.x_0, t) - eps)
        return per_image(0.5 * process.rate(sched, t) / noise**2 * error)

    return loss
