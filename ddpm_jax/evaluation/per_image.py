"""Something measured of every image of a split, batch by batch: an interrupted call loses one."""

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


def measured(
    run: Run,
    params: Any,
    source: source.Source,
    count: int,
    kept: epath.Path,
    name: str,
    of_batch: Callable[..., Any],
) -> tuple[resumable.Arrays, float]:
    """What 'of_batch' says of the first 'count' images, in float64, and the seconds that it took.

    It is compiled, is called with parameters, a data.Batch and a key per image, and returns a NamedTuple of
    arrays, a row an image. Batches are equal; the last is filled up by repeating its last image.
    """
    size, compiled = run.eval.batch_size, jax.jit(of_batch)

    def batch(number: int) -> resumable.Arrays:
        started = time.monotonic()
        numbers = np.arange(number * size, (number + 1) * size)
        rows = np.minimum(numbers, count - 1)[mesh.local_rows(size)]
        local = source.batch(rows, run.model.network.classes > 0)
        keys = sampling.image_keys(run, run.eval.seed, numbers)
        found = mesh.fetch(compiled(params, mesh.put(run.mesh, local), keys))
        bar.update()
        return found._asdict() | {"seconds": np.asarray(time.monotonic() - started)}

    batches = -(-count // size)
    with console.progress(name, batches, unit="batch") as bar:
        made = resumable.collect(kept, batches, batch, bar.update)
    names = made[0].keys() - {"seconds"}
    joined = {name: np.concatenate([part[name] for part in made])[:count] for name in names}
    whole = {name: values.astype(np.float64) for name, values in joined.items()}
    return whole, sum(float(part["seconds"]) for part in made)


def standard_error(values: Float64[np.ndarray, " n"]) -> float | None:
    """Of a mean over images; None of a single one's."""
    if len(values) < 2:
        return None
    return float(values.std(ddof=1) / np.sqrt(len(values)))
