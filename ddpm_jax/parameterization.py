"""Parameterizations of the reverse process: eps, x_0 or x_prev, and its variance. Sec. 3.2, Table 2.

Samplers, the bound and the figures see only a Denoiser, made here from a network and a Parameterization.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ddpm_jax import diffusion
from ddpm_jax.diffusion import Images, Schedule, Steps, Times

Output = Float[Array, "b h w c2"]
LogVariance = Float[Array, "b _ _ _"]
Network = Callable[[Images, Times], Output]


class Denoised(NamedTuple):
    """A network's prediction from x_t."""

    x_0: Images
    mean: Images | None = None  # mu-tilde, where the network outputs it; only for s = t - 1
    variance: Images | None = None  # the raw output, where the network learns its variance
    shift: Images | None = None  # guidance's change of the mean, divided by the step's variance


Denoiser = Callable[[Images, Times], Denoised]
Variance = Callable[[Schedule, Denoised, Steps, Steps], LogVariance]


def zero_based(sched: Schedule, t: Times) -> Times:
    """Returns t - 1, which the release feeds to the network."""
    return t - 1


class Parameterization(NamedTuple):
    """What a network outputs: the target of L_simple, the prediction to read from it, and its time input."""

    # (sched, x_0, x_t, eps, t) -> the output that minimises L_simple
    target: Callable[[Schedule, Images, Images, Images, Steps], Images]
    # (sched, output, x_t, t) -> the prediction
    read: Callable[[Schedule, Images, Images, Steps], Denoised]
    # (sched, t) -> the network's time input
    time: Callable[[Schedule, Times], Times] = zero_based


def _target_x_prev(sched, x_0, x_t, eps, t):
    return diffusion.q_posterior_mean(sched, x_0, x_t, t, t - 1)


def _read_x_prev(sched, output, x_t, t):
    x_0_factor, x_t_factor = diffusion.posterior_coefficients(sched, t, t - 1)
    return Denoised(x_0=(output - x_t_factor * x_t) / x_0_factor, mean=output)


eps = Parameterization(
    target=lambda sched, x_0, x_t, eps, t: eps,
    read=lambda sched, output, x_t, t: Denoised(x_0=diffusion.x_0_from_eps(sched, x_t, output, t)),
)
x_0 = Parameterization(
    target=lambda sched, x_0, x_t, eps, t: x_0,
    read=lambda sched, output, x_t, t: Denoised(x_0=output),
)
x_prev = Parameterization(target=_target_x_prev, read=_read_x_prev)  # mu-tilde, Eq. 7


def read_output(
    parameterization: Parameterization, sched: Schedule, output: Output, x_t: Images, t: Times
) -> Denoised:
    """Reads a network's output; where it has twice x_t's channels, the last half is the variance."""
    channels = x_t.shape[-1]
    out = parameterization.read(sched, output[..., :channels], x_t, t)
    if output.shape[-1] == channels:
        return out
    return out._replace(variance=output[..., channels:])


def denoiser(parameterization: Parameterization, sched: Schedule, network: Network) -> Denoiser:
    """Returns the Denoiser of a network, which evaluates it once and reads its output."""
    return lambda x_t, t: read_output(parameterization, sched, network(x_t, t), x_t, t)


def clip(denoiser: Denoiser) -> Denoiser:
    """Clips x_0-hat to [-1, 1]. Leaves a mean that the network outputs itself as it is."""

    def clipped(x_t: Images, t: Times) -> Denoised:
        out = denoiser(x_t, t)
        return out._replace(x_0=jnp.clip(out.x_0, -1.0, 1.0))

    return clipped


def _first_step(sched: Schedule, t: Steps, s: Steps) -> tuple[Steps, Steps]:
    """Replaces the step 1 -> 0, whose posterior has no variance, by 2 -> 1, as the release does."""
    return jnp.where(s == 0, 2, t), jnp.where(s == 0, 1, s)


def fixed_small(sched: Schedule, out: Denoised, t: Steps, s: Steps) -> LogVariance:
    """log beta-tilde, the lower bound of Sec. 3.2: optimal if x_0 is a single point."""
    return jnp.log(diffusion.posterior_variance(sched, *_first_step(sched, t, s)))


def fixed_large(sched: Schedule, out: Denoised, t: Steps, s: Steps) -> LogVariance:
    """log beta, the upper bound of Sec. 3.2: optimal if x_0 is standard normal.

    At s = 0 it is fixed_small's, as in the release, which improves the likelihood.
    """
    large = jnp.log(diffusion.transition_variance(sched, t, s))
    is_last = (s == 0)[:, None, None, None]
    return jnp.where(is_last, fixed_small(sched, out, t, s), large)


def variance_output(out: Denoised) -> Images:
    assert out.variance is not None, "this network does not learn its variance"
    return out.variance


def learned(sched: Schedule, out: Denoised, t: Steps, s: Steps) -> LogVariance:
    """The network's own log-variance for s = t - 1, per pixel: Table 2's "learned diagonal"."""
    return variance_output(out)


def learned_range(sched: Schedule, out: Denoised, t: Steps, s: Steps) -> LogVariance:
    """Interpolates between log beta-tilde and log beta: Nichol and Dhariwal 2021, Eq. 15.

    The network outputs -1 for the first and 1 for the second, and may extrapolate, as in their release.
    A fraction between the bounds of the step at hand, it is defined for any s.
    """
    fraction = 0.5 * (variance_output(out) + 1.0)
    large = jnp.log(diffusion.transition_variance(sched, t, s))
    return fraction * large + (1.0 - fraction) * fixed_small(sched, out, t, s)


LEARNED = learned, learned_range  # these need a network with twice the output channels


def is_learned(variance: Variance) -> bool:
    """Returns whether a variance reads the network's output; one from elsewhere says so by an attribute."""
    return variance in LEARNED or getattr(variance, "learned", False)


def reverse(
    sched: Schedule, variance: Variance, out: Denoised, x_t: Images, t: Steps, s: Steps
) -> tuple[Images, LogVariance]:
    """Returns the mean and the log-variance of p(x_s | x_t). Eqs. 1 and 11."""
    mean = out.mean
    if mean is None:
        mean = diffusion.q_posterior_mean(sched, out.x_0, x_t, t, s)
    log_variance = variance(sched, out, t, s)
    if out.shift is not None:
        mean += jnp.exp(log_variance) * out.shift
    return mean, log_variance
