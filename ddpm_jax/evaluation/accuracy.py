"""How often a classifier of noisy images is right, and how sure it is, from clean images to noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddpm_jax import diffusion
from ddpm_jax.datasets import pixels
from ddpm_jax.datasets import source as sources
from ddpm_jax.evaluation import per_image
from ddpm_jax.run import model, state
from ddpm_jax.run import run as runs
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, digest, files, resumable
from ddpm_jax.samplers import loop

TIMES = 11


class Told(NamedTuple):
    """Of each image, at each time."""

    right: Float[Array, "b n"]
    nats: Float[Array, "b n"]  # -log p(label | x_t)


def times(T: int) -> np.ndarray:
    return np.unique(np.linspace(1, T, TIMES).round().astype(np.int32))


def accuracy(run: Run, split: str, images: int) -> None:
    """With EMA weights, one draw of noise an image and time; writes eval/<step>-accuracy-<split>.json."""
    source = run.data.open(split)
    count, at = min(images, source.count), times(run.model.sched.T)
    step, params = state.read_ema(run)
    path = run.directory / "eval" / f"{step}-accuracy-{files.file_name_part(split)}.json"

    def of_batch(params, batch: sources.Batch, keys) -> Told:
        x_0 = pixels.normalize(batch.images, run.model.levels)

        def of_time(t):
            eps = loop.draw(keys, t, x_0.shape[1:])
            of_images = jnp.full(len(x_0), t)
            x_t = diffusion.q_sample(run.model.sched, x_0, of_images, eps)
            log_p = model.network(run.model, params)(x_t, of_images)
            of_label = jnp.take_along_axis(log_p, batch.labels[:, None], axis=1)[:, 0]
            return (log_p.argmax(axis=1) == batch.labels).astype(jnp.float32), -of_label

        right, nats = jax.lax.map(of_time, jnp.asarray(at))
        return Told(right.T, nats.T)

    decides = (count, run.eval.batch_size, run.eval.seed, digest.record(params))
    with resumable.parts_folder(path, *decides, *runs.rounding(run)) as kept:
        found, seconds = per_image.measured(run, params, source, count, kept, "accuracy", of_batch)
        right, nats = (found[name].mean(axis=0).tolist() for name in Told._fields)
        error = [per_image.standard_error(of_time) for of_time in found["right"].T]
        record = {
            "accuracy": right,
            "standard_error": error,
            "cross_entropy": nats,
            "t": at.tolist(),
            "images": count,
            "split": split,
            "weights": "ema",
            "seed": run.eval.seed,
            "seconds": round(seconds, 1),
        }
        files.write_json(path, record)
    middle = len(at) // 2
    console.say(
        f"{split} accuracy  {100 * right[0]:.1f} % at t = 1, {100 * right[middle]:.1f} % at t ="
        f" {at[middle]}, {100 * right[-1]:.1f} % at t = {at[-1]} ({count} images)"
    )
