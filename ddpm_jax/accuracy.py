"""How often a classifier of noisy images is right, and how sure it is, from clean images to noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddpm_jax import (
    build,
    data,
    diffusion,
    digest,
    each_image,
    parts,
    report,
    sampling,
    state,
    workdir,
)
from ddpm_jax.build import Run

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
    step, params = state.averaged(run)
    path = run.directory / "eval" / f"{step}-accuracy-{workdir.in_file_name(split)}.json"

    def of_batch(params, batch: data.Batch, keys) -> Told:
        x_0 = data.normalize(batch.images, run.model.levels)

        def of_time(t):
            eps = sampling.draw(keys, t, x_0.shape[1:])
            of_images = jnp.full(len(x_0), t)
            x_t = diffusion.q_sample(run.model.sched, x_0, of_images, eps)
            log_p = build.network(run.model, params)(x_t, of_images)
            of_label = jnp.take_along_axis(log_p, batch.labels[:, None], axis=1)[:, 0]
            return (log_p.argmax(axis=1) == batch.labels).astype(jnp.float32), -of_label

        right, nats = jax.lax.map(of_time, jnp.asarray(at))
        return Told(right.T, nats.T)

    decides = (count, run.eval.batch_size, run.eval.seed, digest.record(params))
    with parts.beside(path, *decides, *build.rounding(run)) as kept:
        found, seconds = each_image.measured(run, params, source, count, kept, "accuracy", of_batch)
        right, nats = (found[name].mean(axis=0).tolist() for name in Told._fields)
        error = [each_image.standard_error(of_time) for of_time in found["right"].T]
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
        workdir.write_json(path, record)
    middle = len(at) // 2
    report.say(
        f"{split} accuracy  {100 * right[0]:.1f} % at t = 1, {100 * right[middle]:.1f} % at t ="
        f" {at[middle]}, {100 * right[-1]:.1f} % at t = {at[-1]} ({count} images)"
    )
