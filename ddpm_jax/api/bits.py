"""Bits: the bound of images, and the files that they are compressed to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, Int, UInt8

from ddpm_jax.codec import archive, archive_header, calibration, image_file
from ddpm_jax.codec import model as codecs
from ddpm_jax.codec.model import Codec
from ddpm_jax.datasets import pixels
from ddpm_jax.distributed import mesh
from ddpm_jax.losses import bound
from ddpm_jax.run import model as models
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run

Levels = UInt8[np.ndarray, "n h w c"]
Labels = Int[np.ndarray, " n"]


def compile_bound(run: Run, steps: int) -> jax.stages.Wrapped:
    """Returns the jitted bound of a batch in bits/dim, (params, grey levels, labels, keys) -> [b]. Eq. 5."""
    strata = bound.strata(run.model.sched.T, steps)

    def measure(params, images, labels, keys):
        model = run.model
        x_0 = pixels.normalize(images, model.levels)
        denoiser = models.denoiser(model, params, labels)
        return bound.bound(
            model.sched, model.variance, denoiser, x_0, keys, strata, model.levels
        ).total

    return jax.jit(measure)


def bits_per_dim(
    run: Run,
    params: Any,
    measure: jax.stages.Wrapped,
    images: Levels,
    labels: Labels | None,
    seed: int,
) -> Float64[np.ndarray, " n"]:
    """Returns each image's bound, in batches of eval.batch_size: those of --mode=evaluate, image by image."""
    size, found = run.eval.batch_size, []
    for first in range(0, len(images), size):
        numbers = np.arange(first, first + size)
        rows = np.minimum(numbers, len(images) - 1)
        placed = mesh.put(run.mesh, images[rows])
        placed_labels = None if labels is None else mesh.put(run.mesh, labels[rows])
        keys = sampling.image_keys(run, seed, numbers)
        found.append(mesh.fetch(measure(params, jnp.asarray(placed), placed_labels, keys)))
    return np.concatenate(found)[: len(images)].astype(np.float64)


def open_codec(run: Run, step: int, params: Any) -> Codec:
    """Returns the codec of a run's weights. Raises ValueError before --mode=calibrate."""
    codecs.check(run.model)
    plan = calibration.read(calibration.file_path(run.directory, step, run.prefix))
    return codecs.codec(run.model, run.config, params, plan)


def compress(images: Levels, codec: Codec) -> bytes:
    """Returns the content of a .djx file for one image, of a .djxa file for several."""
    if len(images) == 1:
        return image_file.compress(images[0], codec)
    return archive.archive(images, codec)


def decompress(data: bytes, codec: Codec) -> Levels:
    """Returns the images of a .djx or a .djxa file. Raises CodecError, a ValueError, for a damaged one."""
    if data[:4] == archive_header.MAGIC:
        return np.stack([member.image for member in archive.unarchive(data, codec)])
    return image_file.decompress(data, codec).image[None]
