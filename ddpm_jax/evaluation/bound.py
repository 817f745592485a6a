"""The variational bound of a split's images: rate, distortion and every term. Eq. 5 and Sec. 4.3."""

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
from ddpm_jax.runtime import console, digest, files, resumable

Values = Float64[np.ndarray, " n"]


def bound_of(run: Run, split: str, images: int) -> None:
    """Rate, distortion and their sum, with EMA weights, x_0 clipped. Eq. 5 and Sec. 4.3.

    Writes eval/<step>-likelihood-<split>.json. Raises Stopped if asked to; what an interrupted call
    has computed is not computed again.
    """
    source = run.data.open(split)
    count = min(images, source.count)
    step, params = state.read_ema(run)
    path = run.directory / "eval" / f"{step}-likelihood-{files.file_name_part(split)}.json"
    chosen, T = run.eval.strata, run.model.sched.T
    steps = len(chosen.first)
    decides = (count, steps, run.eval.batch_size, run.eval.seed, digest.record(params))
    with resumable.parts_folder(path, *decides, *runs.rounding(run)) as kept:
        values, seconds = bounds(run, params, source, count, kept)
        made = {
            "images": count,
            "steps": steps,
            "of_steps": T,
            "split": split,
            "weights": "ema",
            "seed": run.eval.seed,
            "seconds": round(seconds, 1),
        }
        record = summary(values) | made | {"terms": terms(values, chosen)}
        files.write_json(path, record)
    bits, error = (record[name] for name in ("bits_per_dim", "standard_error"))
    console.say(f"{split} bound  {bits:.3f} bits/dim ({count} images, {steps} of {T} steps)")
    console.say(
        f"  rate {record['rate']:.3f} + distortion {record['distortion']:.3f}, RMSE"
        f" {record['rmse']:.2f} of 255" + (f", standard error {error:.3f}" if error else "")
    )


def bounds(
    run: Run, params, source: sources.Source, count: int, kept: epath.Path
) -> tuple[Bound, float]:
    """Every image's bound, and the seconds they took; each batch is kept in the folder 'kept'."""

    def of_batch(params, batch: sources.Batch, keys) -> Bound:
        model, x_0 = run.model, pixels.normalize(batch.images, run.model.levels)
        denoiser = models.denoiser(model, params, batch.labels)
        return bound.bound(
            model.sched, model.variance, denoiser, x_0, keys, run.eval.strata, model.levels
        )

    found, seconds = per_image.measured(run, params, source, count, kept, "bound", of_batch)
    return Bound(**found), seconds


def summary(values: Bound) -> dict[str, float | None]:
    """Means over images in bits/dim with their standard errors; RMSE of x_0-hat(x_1) on 0..255."""
    found = {}
    parts_of_it = ("bits_per_dim", values.total), ("rate", values.rate)
    for name, each in (*parts_of_it, ("distortion", values.distortion), ("prior", values.prior)):
        found |= {
            name: float(each.mean()),
            f"{name}_standard_error": per_image.standard_error(each),
        }
    found["standard_error"] = found.pop("bits_per_dim_standard_error")
    return found | {"rmse": float(rmse(values)[0])}


def rmse(values: Bound) -> Values:
    """Of x_0-hat at each stratum, over all images and pixels, on 0..255. Table 4."""
    return 127.5 * np.sqrt(values.mse.mean(axis=0))


def terms(values: Bound, chosen: bound.Strata) -> dict[str, list]:
    """Every stratum: its first t and how many there are, their L_{t-1} summed, x_0-hat's RMSE."""
    return {
        "first": chosen.first.tolist(),
        "size": chosen.size.tolist(),
        "bits_per_dim": values.terms.mean(axis=0).tolist(),
        "standard_error": [per_image.standard_error(each) for each in values.terms.T],
        "rmse": rmse(values).tolist(),
    }
