"""--mode=evaluate: numbers about a run's newest checkpoint. So far the variational bound."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from ddpm_jax import build, data, likelihood, parallel, report, sampling, state, workdir
from ddpm_jax.build import Run
from ddpm_jax.likelihood import Bound


def evaluate(run: Run) -> None:
    """The bound on the first eval.images held-out images, EMA weights, x_0 clipped. Eq. 5.

    Writes eval/<step>-likelihood-<split>.json. Does nothing without such images.
    """
    split = run.data.held_out
    if not run.eval.images or not split:
        return
    source = run.data.open(split)
    count = min(run.eval.images, source.count)
    step, params = state.averaged(run)
    started = time.monotonic()
    values = bounds(run, params, source, count)
    steps, T = len(run.eval.strata.first), run.model.sched.T
    record = summary(values) | {
        "images": count,
        "steps": steps,
        "of_steps": T,
        "split": split,
        "weights": "ema",
        "seed": run.eval.seed,
        "seconds": round(time.monotonic() - started, 1),
    }
    workdir.write_json(run.directory / "eval" / f"{step}-likelihood-{split}.json", record)
    report.say(
        f"{split} bound  {record['bits_per_dim']:.3f} bits/dim ({count} images, {steps} of {T} steps)"
    )


def bounds(run: Run, params, source: data.Source, count: int) -> Bound:
    """Every image's bound, in equal batches; the last is filled up by repeating its last image."""

    @jax.jit
    def batch_bound(params, images, keys):
        x_0 = data.normalize(images, run.model.levels)
        denoiser = build.denoiser(run.model, params)
        model = run.model
        return likelihood.bound(
            model.sched, model.variance, denoiser, x_0, keys, run.eval.strata, model.levels
        )

    key, size = jax.random.key(run.eval.seed), run.eval.batch_size
    found = []
    with report.progress("bound", count, unit="image") as bar:
        for first in range(0, count, size):
            numbers = np.arange(first, first + size)
            local = source.read(np.minimum(numbers, count - 1)[parallel.rows(size)])
            keys = sampling.image_keys(key, jnp.asarray(numbers))
            keys = jax.device_put(keys, parallel.by_image(run.mesh))
            found.append(jax.device_get(batch_bound(params, parallel.put(run.mesh, local), keys)))
            bar.update(min(size, count - first))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count].astype(np.float64), *found)


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
