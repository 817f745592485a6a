"""Measurements of a model: the error of x_0-hat at each t, and the bound that file sizes are compared with.

The bound (Eq. 5) has the codec's schedule and variances, but exact Gaussian draws and the library's own
formulas: it shares no arithmetic with the codec.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, Int64, UInt8

from ddpm_jax import diffusion
from ddpm_jax.codec.calibration import Calibration
from ddpm_jax.codec.model import Predict
from ddpm_jax.datasets import pixels
from ddpm_jax.run import model as models
from ddpm_jax.run.model import Model

IMAGES = 2048  # training images used by calibration
EACH = 256  # of those, at each time
BATCH = 64
SEED = 0
Levels = UInt8[np.ndarray, "n h w c"]


def errors(
    model: Model,
    params: Any,
    images: Levels,
    times: Int64[np.ndarray, " g"],
    tick: Callable[[], Any] = lambda: None,
) -> Float64[np.ndarray, " g"]:
    """Measures E|x_0 - x_0-hat(x_t)|^2 per pixel at each of 'times', on EACH images, which differ between times."""

    @jax.jit
    def batch_error(params, images, t, key):
        x_0 = pixels.normalize(images, model.levels)
        x_t = diffusion.q_sample(model.sched, x_0, t, jax.random.normal(key, x_0.shape))
        return jnp.mean((models.denoiser(model, params)(x_t, t).x_0 - x_0) ** 2)

    batches, result = -(-min(EACH, len(images)) // BATCH), np.zeros(len(times))
    for i, t in enumerate(times.tolist()):
        parts = []
        for number in range(i * batches, (i + 1) * batches):
            batch = images[np.arange(number * BATCH, (number + 1) * BATCH) % len(images)]
            key = jax.random.fold_in(jax.random.key(SEED), number)
            parts.append(float(batch_error(params, batch, jnp.full(BATCH, t), key)))
        result[i] = np.mean(parts)
        tick()
    return result


class Terms(NamedTuple):
    """The bound of one image in bits (L_T, each step's KL, L_0), and the error of x_0-hat at each time."""

    prior: float
    steps: Float64[np.ndarray, " n"]
    last: float
    error: Float64[np.ndarray, " n+1"]

    @property
    def total(self) -> float:
        return self.prior + float(self.steps.sum()) + self.last


def bound(
    sched: diffusion.Schedule,
    plan: Calibration,
    predict: Predict,
    image: UInt8[np.ndarray, "h w c"],
    levels: int,
    seed: int,
) -> Terms:
    """Estimates an image's bound without bias, from one exact draw of x_t ~ q(x_t | x_0) per time."""
    random = np.random.default_rng(seed)
    x_0 = image * (2.0 / (levels - 1)) - 1.0
    steps, error, estimates = [], [], []
    for t in plan.times:
        abar = sched.alpha_bar[t]
        x_t = np.sqrt(abar) * x_0 + np.sqrt(1.0 - abar) * random.normal(size=x_0.shape)
        estimates.append(predict(x_t, t))
        error.append(float(((estimates[-1] - x_0) ** 2).mean()))
        if t > 1:
            steps.append(transition_kl(sched, plan, len(steps), error[-1], x_0.size))
    log_variance = jnp.full((1, 1, 1, 1), np.log(plan.error[-1]))
    x_0_float, mean = (jnp.asarray(each[None], jnp.float32) for each in (x_0, estimates[-1]))
    last = diffusion.discretized_log_likelihood(x_0_float, mean, log_variance, levels)
    prior = diffusion.prior_kl(sched, x_0_float)
    return Terms(
        prior=float(prior.sum()) / np.log(2),
        steps=np.array(steps),
        last=-float(last.sum()) / np.log(2),
        error=np.array(error),
    )


def transition_kl(
    sched: diffusion.Schedule, plan: Calibration, step: int, error: float, dims: int
) -> float:
    """KL(q || p) in bits, for an x_0-hat with this squared error."""
    t, s = jnp.array([plan.times[step]]), jnp.array([plan.times[step + 1]])
    of_x_0, _ = (float(each[0, 0, 0, 0]) for each in diffusion.posterior_coefficients(sched, t, s))
    posterior = float(diffusion.posterior_variance(sched, t, s)[0, 0, 0, 0])
    log_p = np.log(posterior / plan.rho2[step])
    nats = diffusion.normal_kl(of_x_0 * np.sqrt(error), np.log(posterior), 0.0, log_p)
    return dims * float(nats) / np.log(2)
