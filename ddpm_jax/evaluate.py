"""--mode=evaluate: numbers about a run's newest checkpoint. So far the variational bound."""

import re
import time

import jax
import numpy as np
from etils import epath

from ddpm_jax import build, data, digest, likelihood, parallel, parts, report, state, workdir
from ddpm_jax.build import Run
from ddpm_jax.likelihood import Bound


def evaluate(run: Run) -> None:
    """The bound on the first eval.images held-out images, EMA weights, x_0 clipped. Eq. 5.

    Writes eval/<step>-likelihood-<split>.json. Does nothing without such images. Raises Stopped if
    asked to; what an interrupted call has computed is not computed again.
    """
    split = run.data.held_out
    if not run.eval.images or not split:
        return
    source = run.data.open(split)
    count = min(run.eval.images, source.count)
    step, params = state.averaged(run)
    path = run.directory / "eval" / f"{step}-likelihood-{in_file_name(split)}.json"
    steps, T = len(run.eval.strata.first), run.model.sched.T
    decides = (count, steps, run.eval.batch_size, run.eval.seed, digest.record(params))
    with parts.beside(path, *decides, *build.rounding(run)) as kept:
        values, seconds = bounds(run, params, source, count, kept)
        record = summary(values) | {
            "images": count,
            "steps": steps,
            "of_steps": T,
            "split": split,
            "weights": "ema",
            "seed": run.eval.seed,
            "seconds": round(seconds, 1),
        }
        workdir.write_json(path, record)
    report.say(
        f"{split} bound  {record['bits_per_dim']:.3f} bits/dim ({count} images, {steps} of {T} steps)"
    )


def in_file_name(split: str) -> str:
    """ "train[95%:]" as "train-95to": no sign that a file system or a shell minds."""
    return re.sub(r"\W+", "-", split.replace("%", "").replace(":", "to")).strip("-")


def bounds(
    run: Run, params, source: data.Source, count: int, kept: epath.Path
) -> tuple[Bound, float]:
    """Every image's bound, and the seconds they took; each batch is kept in the folder 'kept'.

    The batches are equal; the last is filled up by repeating its last image.
    """

    @jax.jit
    def batch_bound(params, images, keys):
        x_0 = data.normalize(images, run.model.levels)
        denoiser = build.denoiser(run.model, params)
        model = run.model
        return likelihood.bound(
            model.sched, model.variance, denoiser, x_0, keys, run.eval.strata, model.levels
        )

    size = run.eval.batch_size

    def batch(number: int) -> parts.Arrays:
        started = time.monotonic()
        numbers = np.arange(number * size, (number + 1) * size)
        local = source.read(np.minimum(numbers, count - 1)[parallel.rows(size)])
        keys = build.image_keys(run, run.eval.seed, number * size, size)
        found = parallel.fetch(batch_bound(params, parallel.put(run.mesh, local), keys))
        bar.update()
        return found._asdict() | {"seconds": np.asarray(time.monotonic() - started)}

    batches = -(-count // size)
    with report.progress("bound", batches, unit="batch") as bar:
        made = parts.collect(kept, batches, batch, bar.update)
    joined = {name: np.concatenate([part[name] for part in made])[:count] for name in Bound._fields}
    whole = Bound(**{name: values.astype(np.float64) for name, values in joined.items()})
    return whole, sum(float(part["seconds"]) for part in made)


def summary(values: Bound) -> dict[str, float]:
    """Means over images in bits/dim, and the standard error of the total's."""
    error = values.total.std(ddof=1) / np.sqrt(len(values.total)) if len(values.total) > 1 else None
    return {
        "bits_per_dim": float(values.total.mean()),
        "standard_error": error,
        "prior": float(values.prior.mean()),
        "steps_above_one": float(values.steps.mean()),
        "decoder": float(values.decoder.mean()),
    }
