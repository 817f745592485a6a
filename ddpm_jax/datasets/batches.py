"""TFDS data sets of images, read without TensorFlow, as uint8 batches.

Batch n is a pure function of (seed, n): a random-access source under a permutation that is new every
epoch and made from (seed, epoch). So there is no iterator to save, and a run resumes exactly.
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import jax
import numpy as np

from ddpm_jax.datasets.source import Batch, Indices, Source

IN_MEMORY = 2 << 30  # bytes of decoded pixels up to which a data set is decoded once and kept
AHEAD = 4  # batches that are made before they are asked for
PIECE = (
    8  # images that one thread decodes at a time: all cores work on the batch that is needed next
)


def loaded(source: Source, labelled: bool = False) -> Source:
    """The source with every image decoded, by threads, if they fit in memory; with its labels if asked."""
    if source.count * int(np.prod(source.shape)) > IN_MEMORY:
        return source
    spans = np.array_split(np.arange(source.count), max(source.count // 1000, 1))
    with ThreadPoolExecutor() as pool:
        images = np.concatenate(list(pool.map(source.read, spans)))
        known = np.concatenate(list(pool.map(source.labels, spans))) if labelled else None
    return source._replace(records=images, known=known)


@lru_cache(maxsize=2)  # a batch may be in two epochs
def permutation(count: int, seed: int, epoch: int) -> Indices:
    """The order of one epoch; a third of a second for three million images."""
    # Sorted words, and not Generator.permutation: NumPy promises that only the former stay the same.
    return np.random.PCG64((seed, epoch)).random_raw(count).argsort(kind="stable")


def indices_of(count: int, seed: int, size: int, n: int, rows: slice = slice(None)) -> Indices:
    """Which of 'count' images the rows 'rows' of global batch n (0, 1, ...) are, in whichever epochs."""
    epochs, places = np.divmod(n * size + np.arange(size)[rows], count)
    return np.concatenate(
        [permutation(count, seed, int(e))[places[epochs == e]] for e in np.unique(epochs)]
    )


def batches(
    source: Source, seed: int, size: int, rows: slice, first: int, last: int, labelled: bool = False
) -> Generator[Batch, None, None]:
    """The rows 'rows' of global batches first..last - 1 of 'size' images, made ahead by threads."""
    piece = size if isinstance(source.records, np.ndarray) else PIECE

    def begun(n: int) -> list[Future]:
        chosen = indices_of(source.count, seed, size, n, rows)
        places = range(0, len(chosen), piece)
        return [pool.submit(source.batch, chosen[i : i + piece], labelled) for i in places]

    with ThreadPoolExecutor() as pool:
        ahead = deque(begun(n) for n in range(first, min(first + AHEAD, last)))
        for n in range(first, last):
            parts = [part.result() for part in ahead.popleft()]
            ready = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
            if n + AHEAD < last:
                ahead.append(begun(n + AHEAD))
            yield ready
