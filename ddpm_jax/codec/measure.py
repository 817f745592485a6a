"""What a model knows of images: the error of x_0-hat at each t, and the bound that files are held against.

The bound is of the codec's own schedule and variances and of exact Gaussian draws (Eq. 5), by the
library's formulas: nothing of the codec's arithmetic is in it.
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

IMAGES = 2048  # training images that calibration looks at
EACH = 256  # of them, at every time
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
    """E|x_0 - x_0-hat(x_t)|^2 a pixel at each of 'times', EACH images a time, another share for the next."""

    @jax.jit
    def of_batch(params, images, t, key):
        x_0 = pixels.normalize(images, model.levels)
        x_t = diffusion.q_sample(model.sched, x_0, t, jax.random.normal(key, x_0.shape))
        return jnp.mean((models.denoiser(model, params)(x_t, t).x_0 - x_0) ** 2)

    each, found = -(-min(EACH, len(images)) // BATCH), np.zeros(len(times))
    for place, t in enumerate(times.tolist()):
        parts = []
        for number in range(place * each, (place + 1) * each):
            chosen = images[np.arange(number * BATCH, (number + 1) * BATCH) % len(images)]
            key = jax.random.fold_in(jax.random.key(SEED), number)
            parts.append(float(of_batch(params, chosen, jnp.full(BATCH, t), key)))
        found[place] = np.mean(parts)
        tick()
    return found


class Terms(NamedTuple):
    """Of one image, in bits: L_T, KL of every step, L_0; and the squared error of x_0-hat at every time."""

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
    """An unbiased estimate of an image's bound: one exact draw of x_t ~ q(x_t | x_0) a time."""
    random = np.random.default_rng(seed)
    x_0 = image * (2.0 / (levels - 1)) - 1.0
    steps, error = [], []
    for t in plan.times:
        abar = sched.alpha_bar[t]
        x_t = np.sqrt(abar) * x_0 + np.sqrt(1.0 - abar) * random.normal(size=x_0.shape)
        x_0_hat = predict(x_t, t)
        error.append(float(((x_0_hat - x_0) ** 2).mean()))
        if t > 1:
            steps.append(transition_kl(sched, plan, len(steps), error[-1], x_0.size))
    log_variance = jnp.full((1, 1, 1, 1), np.log(plan.error[-1]))
    wide = (jnp.asarray(each[None], jnp.float32) for each in (x_0, x_0_hat))
    last = diffusion.discretized_log_likelihood(*wide, log_variance, levels)
    prior = diffusion.prior_kl(sched, jnp.asarray(x_0[None], jnp.float32))
    nats = float(prior.sum()), -float(last.sum())
    return Terms(nats[0] / np.log(2), np.array(steps), nats[1] / np.log(2), np.array(error))


def transition_kl(
    sched: diffusion.Schedule, plan: Calibration, step: int, error: float, dims: int
) -> float:
    """KL(q || p) in bits, of an x_0-hat with this squared error."""
    t, s = jnp.array([plan.times[step]]), jnp.array([plan.times[step + 1]])
    of_x_0, _ = (float(each[0, 0, 0, 0]) for each in diffusion.posterior_coefficients(sched, t, s))
    posterior = float(diffusion.posterior_variance(sched, t, s)[0, 0, 0, 0])
    log_p = np.log(posterior / plan.rho2[step])
    nats = diffusion.normal_kl(of_x_0 * np.sqrt(error), np.log(posterior), 0.0, log_p)
    return dims * float(nats) / np.log(2)
