"""Per-image measurements on a split, in resumable batches: an interrupted call loses one batch."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Float64

from ddpm_jax.datasets import source
from ddpm_jax.distributed import mesh
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, resumable


def measure(
    run: Run,
    params: Any,
    source: source.Source,
    count: int,
    parts: epath.Path,
    name: str,
    measure_batch: Callable[..., Any],
) -> tuple[resumable.Arrays, float]:
    """Measures the first 'count' images; returns float64 arrays by field, and the seconds it took.

    'measure_batch' is jitted and called with the parameters, a source.Batch and a key per image; it
    returns a NamedTuple of arrays, one row per image. All batches have the same size; the last one is
    padded by repeating its last image, and the padding is cut off.
    """
    size, compiled = run.eval.batch_size, jax.jit(measure_batch)

    def batch(number: int) -> resumable.Arrays:
        started = time.monotonic()
        numbers = np.arange(number * size, (number + 1) * size)
        rows = np.minimum(numbers, count - 1)[mesh.local_rows(size)]
        local = source.batch(rows, run.model.network.classes > 0)
        keys = sampling.image_keys(run, run.eval.seed, numbers)
        values = mesh.fetch(compiled(params, mesh.put(run.mesh, local), keys))
        bar.update()
        return values._asdict() | {"seconds": np.asarray(time.monotonic() - started)}

    batches = -(-count // size)
    label = f"measuring the {name}"
    with console.progress(label, batches, unit="batch") as bar, console.doing(label, bar):
        measured = resumable.collect(parts, batches, batch, bar.update)
    fields = measured[0].keys() - {"seconds"}
    values = {name: np.concatenate([part[name] for part in measured])[:count] for name in fields}
    doubles = {name: array.astype(np.float64) for name, array in values.items()}
    return doubles, sum(float(part["seconds"]) for part in measured)


def standard_error(values: Float64[np.ndarray, " n"]) -> float | None:
    """The standard error of a mean over images; None for a single image."""
    if len(values) < 2:
        return None
    return float(values.std(ddof=1) / np.sqrt(len(values)))
