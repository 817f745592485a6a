"""Accuracy and cross-entropy of a classifier of noisy images, from clean images to pure noise."""

from typing import Any, NamedTuple

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


class Predictions(NamedTuple):
    """How each image is classified at each time."""

    right: Float[Array, "b n"]
    nats: Float[Array, "b n"]  # -log p(label | x_t)


def times(T: int) -> np.ndarray:
    return np.unique(np.linspace(1, T, TIMES).round().astype(np.int32))


def accuracy(run: Run, split: str, images: int) -> None:
    """Measures accuracy, from one draw of noise per image and time.

    Writes eval/<step>-accuracy-<split>.json. Raises Stopped on a stop signal; the next call resumes
    after the last finished batch.
    """
    source = run.data.open(split)
    count, at = min(images, source.count), times(run.model.sched.T)
    step, params = state.read_weights(run)
    path = (
        run.directory / "eval" / f"{step}-{run.prefix}accuracy-{files.file_name_part(split)}.json"
    )

    def predict(params, batch: sources.Batch, keys) -> Predictions:
        images, labels = jnp.asarray(batch.images), jnp.asarray(batch.labels)
        x_0 = pixels.normalize(images, run.model.levels)

        def predict_at(t):
            eps = loop.draw_noise(keys, t, x_0.shape[1:])
            t_of_images = jnp.full(len(x_0), t)
            x_t = diffusion.q_sample(run.model.sched, x_0, t_of_images, eps)
            log_p = model.network(run.model, params)(x_t, t_of_images)
            log_p_label = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
            return (log_p.argmax(axis=1) == labels).astype(jnp.float32), -log_p_label

        right, nats = jax.lax.map(predict_at, jnp.asarray(at))
        return Predictions(right=right.T, nats=nats.T)

    fingerprint = (count, run.eval.batch_size, run.eval.seed, digest.record(params))
    with resumable.parts_folder(path, *fingerprint, *runs.rounding(run)) as parts:
        values, seconds = per_image.measure(run, params, source, count, parts, "accuracy", predict)
        right, nats = (values[name].mean(axis=0).tolist() for name in Predictions._fields)
        record = {
            "accuracy": right,
            "standard_error": [per_image.standard_error(column) for column in values["right"].T],
            "cross_entropy": nats,
            "t": at.tolist(),
            "images": count,
            "split": split,
            "weights": run.weights,
            "seed": run.eval.seed,
            "seconds": round(seconds, 1),
        }
        files.write_json(path, record)
    print_accuracy(record)


def print_accuracy(record: dict[str, Any]) -> None:
    """Prints the accuracy at the first, the middle and the last t."""
    right, at, middle = record["accuracy"], record["t"], len(record["t"]) // 2
    console.say(
        f"{record['split']} accuracy  {100 * right[0]:.1f} % at t = 1, {100 * right[middle]:.1f} %"
        f" at t = {at[middle]}, {100 * right[-1]:.1f} % at t = {at[-1]} ({record['images']} images)"
    )
