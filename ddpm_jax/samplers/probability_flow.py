"""The probability-flow ODE: exact likelihood, and images to latents and back. Song et al. 2021, Sec. 4.3, App. D.

In the network's coordinates, where x_t is that of a variance-preserving process, the ODE is
dx/dt = -beta(t) / 2 (x + score(x, t)); those of VE and sub-VP differ only in scale. Here the variable is
l = log sigma~, sigma~ = sqrt(1 / alpha_bar_t - 1), so that dx/dl = signal (signal x - x_0-hat): bounded, and
smooth where beta(t) jumps or sigma is tiny. It is solved from T_MIN, where x counts as data, to T.
The Denoiser should not clip x_0: a clip has no inverse, and an adaptive solver wastes steps on its
kinks. Each image has its own adaptive steps, so its solution does not depend on its batch.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ddpm_jax import sde
from ddpm_jax.diffusion import Images, PerImage, Schedule, Times
from ddpm_jax.parameterization import Denoiser

T_MIN = sde.T_MIN
TOLERANCE = 1e-5  # relative and absolute, the paper's
MAX_STEPS = 100_000

Image = Float[Array, "h w c"]
Scalar = Float[Array, ""]
Probes = Float[Array, "b k h w c"]
Field = Callable[[Any, Any], Any]  # (l, y) -> dy/dl, for any pytree y


def log_noise_level(sched: Schedule, t: float | int) -> float:
    """Returns l = log sigma~ at t > 0, in float64; not for use under jit."""
    log_alpha_bar = np.interp(t, np.arange(sched.T + 1), np.cumsum(np.log1p(-sched.beta)))
    return 0.5 * math.log(math.expm1(-log_alpha_bar))


def time_at(sched: Schedule, level: Float[Array, " b"]) -> Times:
    """Returns the t at which log sigma~ is 'level'."""
    log_alpha_bar = np.cumsum(np.log1p(-sched.beta))
    return jnp.interp(jax.nn.softplus(2.0 * level), -log_alpha_bar, np.arange(sched.T + 1.0))


def velocity(sched: Schedule, denoiser: Denoiser, x_t: Images, level: Float[Array, " b"]) -> Images:
    """Returns dx/dl of the probability-flow ODE. Eq. 13."""
    signal = jnp.sqrt(jax.nn.sigmoid(-2.0 * level))[:, None, None, None]
    return signal * (signal * x_t - denoiser(x_t, time_at(sched, level)).x_0)


def image_velocity(sched: Schedule, denoiser: Denoiser) -> Callable[[Scalar, Image], Image]:
    """Returns the velocity as a function of one level and one image, which is an ODE of its own."""

    def field(level: Scalar, x: Image) -> Image:
        return velocity(sched, denoiser, x[None], level[None])[0]

    return field


def endpoints(sched: Schedule, t_min: float) -> tuple[float, float]:
    """Returns log sigma~ at t_min and at T."""
    return log_noise_level(sched, t_min), log_noise_level(sched, sched.T)


def solve(field: Field, y: Any, start: float, end: float) -> Any:
    """Returns y(end), where dy/dl = field(l, y) and y(start) = y, by Dormand and Prince's 5(4). App. D.2."""
    import diffrax  # here, as it takes most of a second to import and few callers solve ODEs

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: field(t, y)),
        diffrax.Dopri5(),
        t0=start,
        t1=end,
        dt0=None,
        y0=y,
        stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE),
        saveat=diffrax.SaveAt(t1=True),
        max_steps=MAX_STEPS,
        adjoint=diffrax.ForwardMode(),  # nothing is differentiated, so no checkpoints are needed
    )
    return jax.tree.map(lambda leaf: leaf[-1], solution.ys)


def encode(sched: Schedule, denoiser: Denoiser, x_0: Images, t_min: float = T_MIN) -> Images:
    """Returns the latents x_T of images."""
    start, end = endpoints(sched, t_min)
    return jax.vmap(lambda x: solve(image_velocity(sched, denoiser), x, start, end))(x_0)


def decode(sched: Schedule, denoiser: Denoiser, x_T: Images, t_min: float = T_MIN) -> Images:
    """Returns the images, x at t_min, of latents x_T."""
    end, start = endpoints(sched, t_min)
    return jax.vmap(lambda x: solve(image_velocity(sched, denoiser), x, start, end))(x_T)


def estimate_divergence(
    field: Field,
    level: float | Scalar,
    x: Image,
    probes: Float[Array, "k h w c"],
) -> tuple[Image, Scalar]:
    """Returns field(l, x) and an estimate of its divergence, the mean of v . (J v) over probes v. Eq. 40.

    The Skilling-Hutchinson estimator: unbiased if E[v v'] = 1, and exact for the probes of 'basis'.
    """

    def along(probe: Image) -> tuple[Image, Scalar]:
        value, derivative = jax.jvp(lambda x: field(level, x), (x,), (probe,))
        return value, jnp.sum(derivative * probe)

    values, divergences = jax.vmap(along)(probes)
    return values[0], divergences.mean()


def basis(shape: tuple[int, int, int]) -> Float[Array, "d h w c"]:
    """Returns probes that give the exact trace, at one network evaluation per dimension."""
    size = math.prod(shape)
    return math.sqrt(size) * jnp.eye(size).reshape(size, *shape)


def rademacher(keys: Key[Array, " b"], count: int, shape: tuple[int, int, int]) -> Probes:
    """Draws 'count' probes of random signs per image.

    Among probes with independent entries, these give the estimate the least variance.
    """
    return jax.vmap(lambda key: jax.random.rademacher(key, (count, *shape), jnp.float32))(keys)


def gaussian(keys: Key[Array, " b"], count: int, shape: tuple[int, int, int]) -> Probes:
    return jax.vmap(lambda key: jax.random.normal(key, (count, *shape)))(keys)


def log_density(
    sched: Schedule, denoiser: Denoiser, x_0: Images, probes: Probes, t_min: float = T_MIN
) -> tuple[PerImage, Images]:
    """Returns log p(x_0) in nats under the ODE's own density, where x_T ~ N(0, 1), and the latents x_T. Eq. 39.

    As in the paper, an image's probes serve its whole path, which keeps the estimate unbiased.
    """

    def image_log_density(x: Image, probes: Float[Array, "k h w c"]) -> tuple[Scalar, Image]:
        def field(level, state):
            return estimate_divergence(image_velocity(sched, denoiser), level, state[0], probes)

        x_T, integral = solve(field, (x, jnp.zeros(())), *endpoints(sched, t_min))
        log_prior = -0.5 * jnp.sum(x_T**2 + math.log(2.0 * math.pi))
        return log_prior + integral, x_T

    return jax.vmap(image_log_density)(x_0, probes)


def dequantize(x_0: Images, uniform: Images, levels: int) -> Images:
    """Returns x_0 + (u - 1/2) 2 / (levels - 1), u in [0, 1): each grey level spread over the bin around it.

    Grey levels lie 2 / (levels - 1) apart on [-1, 1], and stay the centres of their bins.
    """
    return x_0 + (uniform - 0.5) * (2.0 / (levels - 1))


def bits_per_dim(log_density: PerImage, size: int, levels: int) -> PerImage:
    """Returns the bits/dim of a density on [-1, 1]: -log2 p / size - log2(bin width 2 / (levels - 1)).

    For dequantised images its mean over u bounds the bits of the grey levels from above (Theis et al.
    2016); for images that were not dequantised it bounds nothing.
    """
    return -log_density / (size * math.log(2.0)) - math.log2(2.0 / (levels - 1))
