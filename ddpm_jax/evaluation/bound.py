"""The variational bound of a split's images: rate, distortion and every term. Eq. 5 and Sec. 4.3."""

from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float64

from ddpm_jax.datasets import pixels
from ddpm_jax.datasets import source as sources
from ddpm_jax.evaluation import per_image
from ddpm_jax.losses import bound
from ddpm_jax.losses.bound import Bound
from ddpm_jax.run import model as models
from ddpm_jax.run import run as runs
from ddpm_jax.run import state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, digest, files, metrics_log, resumable

PARTS = "rate", "distortion"
Values = Float64[np.ndarray, " n"]


def record_path(run: Run, step: int, split: str) -> epath.Path:
    """The file with the bound of a split at a step."""
    return (
        run.directory / "eval" / f"{step}-{run.prefix}likelihood-{files.file_name_part(split)}.json"
    )


def record_paths(run: Run, step: int) -> list[epath.Path]:
    """Returns the paths of the bounds recorded at a step, one per split."""
    return sorted((run.directory / "eval").glob(f"{step}-{run.prefix}likelihood-*.json"))


def likelihood(run: Run, split: str, images: int) -> None:
    """Measures rate, distortion and their sum, with clipped x_0. Eq. 5 and Sec. 4.3.

    Writes eval/<step>-likelihood-<split>.json. Raises Stopped on a stop signal; the next call
    resumes after the last finished batch.
    """
    source = run.data.open(split)
    count = min(images, source.count)
    step, params = state.read_weights(run)
    path = record_path(run, step, split)
    strata, T = run.eval.strata, run.model.sched.T
    steps = len(strata.first)
    fingerprint = (count, steps, run.eval.batch_size, run.eval.seed, digest.record(params))
    with resumable.parts_folder(path, *fingerprint, *runs.rounding(run)) as parts:
        values, seconds = bounds(run, params, source, count, parts)
        origin = {
            "images": count,
            "steps": steps,
            "of_steps": T,
            "split": split,
            "weights": run.weights,
            "seed": run.eval.seed,
            "seconds": round(seconds, 1),
        }
        means = summary(values)
        record = means | origin | {"terms": terms(values, strata)}
        files.write_json(path, record)
    part = files.file_name_part(split)
    numbers = {
        f"{run.prefix}{name}_{part}": value
        for name, value in means.items()
        if name in ("bits_per_dim", *PARTS) and value is not None
    }
    metrics_log.write_measurement(run.directory, step, numbers)
    bits, error = (record[name] for name in ("bits_per_dim", "standard_error"))
    console.say(f"{split} bound  {bits:.3f} bits/dim ({count} images, {steps} of {T} steps)")
    console.say(
        f"  rate {record['rate']:.3f} + distortion {record['distortion']:.3f}, RMSE"
        f" {record['rmse']:.2f} (on 0..255)" + (f", standard error {error:.3f}" if error else "")
    )


def bounds(
    run: Run, params, source: sources.Source, count: int, parts: epath.Path
) -> tuple[Bound, float]:
    """Returns the bound of every image and the seconds it took; keeps finished batches in 'parts'."""

    def measure(params, batch: sources.Batch, keys) -> Bound:
        model = run.model
        x_0 = pixels.normalize(jnp.asarray(batch.images), model.levels)
        labels = None if batch.labels is None else jnp.asarray(batch.labels)
        denoiser = models.denoiser(model, params, labels)
        return bound.bound(
            model.sched, model.variance, denoiser, x_0, keys, run.eval.strata, model.levels
        )

    values, seconds = per_image.measure(run, params, source, count, parts, "bound", measure)
    return Bound(**cast(dict[str, Any], values)), seconds


def summary(values: Bound) -> dict[str, float | None]:
    """Means over images in bits/dim with their standard errors; RMSE of x_0-hat(x_1) on 0..255."""
    columns = {
        "bits_per_dim": values.total,
        "rate": values.rate,
        "distortion": values.distortion,
        "prior": values.prior,
    }
    means: dict[str, float | None] = {}
    for name, column in columns.items():
        means[name] = float(column.mean())
        means[f"{name}_standard_error"] = per_image.standard_error(np.asarray(column))
    means["standard_error"] = means.pop("bits_per_dim_standard_error")
    return means | {"rmse": float(rmse(values)[0])}


def rmse(values: Bound) -> Values:
    """RMSE of x_0-hat at each stratum, on 0..255: the root of the mean over all images and pixels. Table 4.

    The paper's formula, sqrt(||x_0 - x_0-hat||^2 / D), is of one image; it does not say whether its RMSE is this
    one or the mean of each image's root, which is no larger.
    """
    return 127.5 * np.sqrt(values.mse.mean(axis=0))


def terms(values: Bound, strata: bound.Strata) -> dict[str, list]:
    """Returns each stratum's first t, size, sum of L_{t-1} with its standard error, and RMSE of x_0-hat."""
    return {
        "first": strata.first.tolist(),
        "size": strata.size.tolist(),
        "bits_per_dim": values.terms.mean(axis=0).tolist(),
        "standard_error": [per_image.standard_error(column) for column in values.terms.T],
        "rmse": rmse(values).tolist(),
    }
