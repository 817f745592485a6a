"""The probability-flow ODE: images to latents and back, and exact likelihood. Song et al. 2021, Sec. 4.3, App. D.

In the network's coordinates, where x_t is that of a variance-preserving process, the ODE is
dx/dt = -beta(t) / 2 (x + score(x, t)); those of VE and sub-VP are the same one, rescaled. Here it runs over
l = log sigma~, sigma~ = sqrt(1 / alpha_bar_t - 1), where it is dx/dl = signal (signal x - x_0-hat): bounded, and
smooth where beta(t) jumps or sigma is tiny. It goes from T_MIN to T, and what is at T_MIN counts as data.
Give it a Denoiser that does not clip x_0: a clip has kinks, on which an adaptive solver wastes its steps, and
no inverse. Each image has steps of its own, so that it does not depend on its batch.
"""

import math

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
Probe = Float[Array, "h w c"]


def log_noise_level(sched: Schedule, t: float | int) -> float:
    """l = log sigma~ at t > 0. In float64, and outside of any compiled function."""
    log_alpha_bar = np.interp(t, np.arange(sched.T + 1), np.cumsum(np.log1p(-sched.beta)))
    return 0.5 * math.log(math.expm1(-log_alpha_bar))


def time(sched: Schedule, level: Float[Array, " b"]) -> Times:
    """The t at which log sigma~ is 'level'."""
    falling = np.cumsum(np.log1p(-sched.beta))
    return jnp.interp(jax.nn.softplus(2.0 * level), -falling, np.arange(sched.T + 1.0))


def velocity(sched: Schedule, denoiser: Denoiser, x_t: Images, level: Float[Array, " b"]) -> Images:
    """dx/dl of the probability-flow ODE. Eq. 13."""
    signal = jnp.sqrt(jax.nn.sigmoid(-2.0 * level))[:, None, None, None]
    return signal * (signal * x_t - denoiser(x_t, time(sched, level)).x_0)


def of_one(sched: Schedule, denoiser: Denoiser):
    """The velocity of one image at a time."""

    def at(level: Float[Array, ""], x: Image) -> Image:
        return velocity(sched, denoiser, x[None], level[None])[0]

    return at


def ends(sched: Schedule, t_min: float) -> tuple[float, float]:
    return log_noise_level(sched, t_min), log_noise_level(sched, sched.T)


def solve(field, y, start: float, end: float):
    """y(end) of dy/dl = field(l, y), y(start) = y: Dormand and Prince's 5(4) pair, adaptive. App. D.2."""
    import diffrax  # takes most of a second, and only those who solve ODEs need it

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
        adjoint=diffrax.ForwardMode(),  # nothing is differentiated; it allows a loop without checkpoints
    )
    return jax.tree.map(lambda each: each[-1], solution.ys)


def encode(sched: Schedule, denoiser: Denoiser, x_0: Images, t_min: float = T_MIN) -> Images:
    """The latent x_T of images."""
    return jax.vmap(lambda x: solve(of_one(sched, denoiser), x, *ends(sched, t_min)))(x_0)


def decode(sched: Schedule, denoiser: Denoiser, x_T: Images, t_min: float = T_MIN) -> Images:
    """The image, x at t_min, of latents."""
    return jax.vmap(lambda x: solve(of_one(sched, denoiser), x, *ends(sched, t_min)[::-1]))(x_T)


def estimated_divergence(field, level, x: Image, probes: Float[Array, "k h w c"]):
    """The velocity, and its divergence: the mean of v . (J v) over probes of E[v v'] = 1. Skilling, Hutchinson.

    Eq. 40. Of the standard basis, times the dimension, it is the trace itself.
    """

    def along(probe: Probe):
        moved, derivative = jax.jvp(lambda x: field(level, x), (x,), (probe,))
        return moved, jnp.sum(derivative * probe)

    moved, found = jax.vmap(along)(probes)
    return moved[0], found.mean()


def basis(shape: tuple[int, int, int]) -> Float[Array, "d h w c"]:
    """Probes that give the trace itself, at the cost of as many looks as there are pixels."""
    size = math.prod(shape)
    return math.sqrt(size) * jnp.eye(size).reshape(size, *shape)


def rademacher(keys: Key[Array, " b"], count: int, shape: tuple[int, int, int]):
    """'count' probes an image, of signs: of least variance among those with independent entries."""
    return jax.vmap(lambda key: jax.random.rademacher(key, (count, *shape), jnp.float32))(keys)


def gaussian(keys: Key[Array, " b"], count: int, shape: tuple[int, int, int]):
    return jax.vmap(lambda key: jax.random.normal(key, (count, *shape)))(keys)


def log_density(
    sched: Schedule,
    denoiser: Denoiser,
    x_0: Images,
    probes: Float[Array, "b k h w c"],
    t_min: float = T_MIN,
) -> tuple[PerImage, Images]:
    """log p(x_0) in nats of the ODE's own density, whose x_T is N(0, 1), and the latents x_T. Eq. 39.

    One set of probes serves an image's whole path, as in the paper, so the estimate is without bias.
    """

    def of_image(x: Image, probes):
        def field(level, state):
            moved, divergence = estimated_divergence(
                of_one(sched, denoiser), level, state[0], probes
            )
            return moved, divergence

        x_T, gathered = solve(field, (x, jnp.zeros(())), *ends(sched, t_min))
        log_prior = -0.5 * jnp.sum(x_T**2 + math.log(2.0 * math.pi))
        return log_prior + gathered, x_T

    return jax.vmap(of_image)(x_0, probes)


def dequantize(x_0: Images, uniform: Images, levels: int) -> Images:
    """x_0 + (u - 1/2) 2 / (levels - 1), u in [0, 1): every grey level becomes the bin around it.

    The grey levels lie 2 / (levels - 1) apart on [-1, 1], and the network knows them at these places.
    """
    return x_0 + (uniform - 0.5) * (2.0 / (levels - 1))


def bits_per_dim(log_density: PerImage, size: int, levels: int) -> PerImage:
    """-log2 p / d - log2(2 / (levels - 1)) of a density on [-1, 1], by the width of a bin.

    Its mean over u of dequantised images bounds the bits of the grey levels from above (Theis et al. 2016);
    of images that were not dequantised it bounds nothing.
    """
    return -log_density / (size * math.log(2.0)) - math.log2(2.0 / (levels - 1))
