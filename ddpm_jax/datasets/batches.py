"""Batches of uint8 images from a random-access source.

Batch n is a pure function of (seed, n): each epoch has its own permutation, made from (seed, epoch). So
there is no iterator state to save, and a run resumes exactly.
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import jax
import numpy as np

from ddpm_jax.datasets.source import Batch, Indices, Source

IN_MEMORY = 2 << 30  # bytes of decoded pixels up to which a data set is decoded once and kept
PREFETCH = 4  # batches decoded before they are needed
CHUNK = 8  # images that a thread decodes at a time: small, so that all cores work on the next batch


def load(source: Source, labelled: bool = False) -> Source:
    """Decodes all images, and reads labels if 'labelled', unless they do not fit in memory."""
    if source.count * int(np.prod(source.shape)) > IN_MEMORY:
        return source
    spans = np.array_split(np.arange(source.count), max(source.count // 1000, 1))
    with ThreadPoolExecutor() as pool:
        images = np.concatenate(list(pool.map(source.read, spans)))
        labels = np.concatenate(list(pool.map(source.labels, spans))) if labelled else None
    return source._replace(records=images, loaded_labels=labels)


@lru_cache(maxsize=2)  # a batch may be in two epochs
def permutation(count: int, seed: int, epoch: int) -> Indices:
    """Returns the order of an epoch; takes a third of a second for three million images."""
    # NumPy guarantees the stream of PCG64 across versions, but not that of Generator.permutation.
    return np.random.PCG64((seed, epoch)).random_raw(count).argsort(kind="stable")


def batch_indices(count: int, seed: int, size: int, n: int, rows: slice = slice(None)) -> Indices:
    """Returns the image indices of some rows of global batch n (0, 1, ...), which may span epochs."""
    epochs, places = np.divmod(n * size + np.arange(size)[rows], count)
    return np.concatenate(
        [permutation(count, seed, int(e))[places[epochs == e]] for e in np.unique(epochs)]
    )


def batches(
    source: Source, seed: int, size: int, rows: slice, first: int, last: int, labelled: bool = False
) -> Generator[Batch, None, None]:
    """Yields some rows of the global batches first..last - 1 of 'size' images; threads prefetch them."""
    chunk = size if isinstance(source.records, np.ndarray) else CHUNK

    def submit(n: int) -> list[Future[Batch]]:
        indices = batch_indices(source.count, seed, size, n, rows)
        starts = range(0, len(indices), chunk)
        return [pool.submit(source.batch, indices[i : i + chunk], labelled) for i in starts]

    with ThreadPoolExecutor() as pool:
        pending = deque(submit(n) for n in range(first, min(first + PREFETCH, last)))
        for n in range(first, last):
            parts = [part.result() for part in pending.popleft()]
            batch = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
            if n + PREFETCH < last:
                pending.append(submit(n + PREFETCH))
            yield batch
