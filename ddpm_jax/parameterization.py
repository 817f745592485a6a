"""What the network's output means: eps, x_0 or x_prev, with or without a variance. Sec. 3.2, Table 2.

After training everything sees only a Denoiser, made here from a network and a Parameterization.
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
    """What a network says about x_t."""

    x_0: Images
    mean: Images | None = None  # only of a network that outputs mu-tilde itself; then s = t - 1
    variance: Images | None = None  # the raw output of a network that learns its variance
    shift: Images | None = None  # what guidance adds to the mean, over the step's variance


Denoiser = Callable[[Images, Times], Denoised]
Variance = Callable[[Schedule, Denoised, Steps, Steps], LogVariance]


def zero_based(sched: Schedule, t: Times) -> Times:
    """t - 1, as the release feeds it to the network."""
    return t - 1


class Parameterization(NamedTuple):
    """What the network should output (for L_simple), what its output says about x_t, and how it is fed t."""

    # (sched, x_0, x_t, eps, t) -> the output that L_simple asks for
    target: Callable[[Schedule, Images, Images, Images, Steps], Images]
    # (sched, output, x_t, t) -> what the output says
    read: Callable[[Schedule, Images, Images, Steps], Denoised]
    # (sched, t) -> the network's time input
    time: Callable[[Schedule, Times], Times] = zero_based


def _target_x_prev(sched, x_0, x_t, eps, t):
    return diffusion.q_posterior_mean(sched, x_0, x_t, t, t - 1)


def _read_x_prev(sched, output, x_t, t):
    of_x_0, of_x_t = diffusion.posterior_coefficients(sched, t, t - 1)
    return Denoised((output - of_x_t * x_t) / of_x_0, mean=output)


eps = Parameterization(
    target=lambda sched, x_0, x_t, eps, t: eps,
    read=lambda sched, output, x_t, t: Denoised(diffusion.x_0_from_eps(sched, x_t, output, t)),
)
x_0 = Parameterization(
    target=lambda sched, x_0, x_t, eps, t: x_0,
    read=lambda sched, output, x_t, t: Denoised(output),
)
x_prev = Parameterization(_target_x_prev, _read_x_prev)  # mu-tilde, Eq. 7


def denoised(parameterization: Parameterization, sched: Schedule, output, x_t, t) -> Denoised:
    """Reads a network's output; where it has twice x_t's channels, the last half is the variance."""
    channels = x_t.shape[-1]
    reading = parameterization.read(sched, output[..., :channels], x_t, t)
    if output.shape[-1] == channels:
        return reading
    return reading._replace(variance=output[..., channels:])


def denoiser(parameterization: Parameterization, sched: Schedule, network: Network) -> Denoiser:
    return lambda x_t, t: denoised(parameterization, sched, network(x_t, t), x_t, t)


def clip(denoise: Denoiser) -> Denoiser:
    """Keeps x_0 within [-1, 1]. A mean that the network gave itself is left as it is."""

    def clipped(x_t: Images, t: Times) -> Denoised:
        out = denoise(x_t, t)
        return out._replace(x_0=jnp.clip(out.x_0, -1.0, 1.0))

    return clipped


def _first_step(sched: Schedule, t: Steps, s: Steps) -> tuple[Steps, Steps]:
    """At s = 0, where the posterior has no variance, the release takes that of the step before."""
    return jnp.where(s == 0, 2, t), jnp.where(s == 0, 1, s)


def fixed_small(sched: Schedule, out: Denoised, t: Steps, s: Steps) -> LogVariance:
    """log beta-tilde, the lower bound of Sec. 3.2: right if x_0 is a single point."""
    return jnp.log(diffusion.posterior_variance(sched, *_first_step(sched, t, s)))


def fixed_large(sched: Schedule, out: Denoised, t: Steps, s: Steps) -> LogVariance:
    """log beta, the upper bound of Sec. 3.2: right if x_0 is standard normal.

    At s = 0 it is fixed_small's, which serves the likelihood better (the release).
    """
    large = jnp.log(diffusion.transition_variance(sched, t, s))
    first = (s == 0)[:, None, None, None]
    return jnp.where(first, fixed_small(sched, out, t, s), large)


def learned(sched: Schedule, out: Denoised, t: Steps, s: Steps) -> LogVariance:
    """The network's own log-variance for s = t - 1, per pixel: Table 2's "learned diagonal"."""
    return out.variance


def learned_range(sched: Schedule, out: Denoised, t: Steps, s: Steps) -> LogVariance:
    """Between log beta-tilde and log beta, where the network says: Nichol and Dhariwal 2021, Eq. 15.

    Its output -1 is the first and 1 the second, and more or less is beyond them (the release). It is a
    fraction, so it holds for any s.
    """
    fraction = 0.5 * (out.variance + 1.0)
    large = jnp.log(diffusion.transition_variance(sched, t, s))
    return fraction * large + (1.0 - fraction) * fixed_small(sched, out, t, s)


LEARNED = learned, learned_range  # what needs the network's other half


def reverse(sched: Schedule, variance: Variance, out: Denoised, x_t: Images, t: Steps, s: Steps):
    """The mean and the log-variance of p(x_s | x_t). Eqs. 1 and 11."""
    mean = out.mean
    if mean is None:
        mean = diffusion.q_posterior_mean(sched, out.x_0, x_t, t, s)
    log_variance = variance(sched, out, t, s)
    if out.shift is not None:
        mean += jnp.exp(log_variance) * out.shift
    return mean, log_variance
