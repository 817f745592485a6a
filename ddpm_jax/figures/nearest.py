"""Figures 12 and 15: the training images nearest to samples, to show whether any is copied."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from ddpm_jax.datasets import pixels
from ddpm_jax.datasets.source import Bytes, Source
from ddpm_jax.evaluation import spaces
from ddpm_jax.figures import samples
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.metrics import features
from ddpm_jax.metrics.features import Space
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, plotting, resumable, signals
from ddpm_jax.runtime.plotting import Figure, Header
from ddpm_jax.runtime.resumable import Arrays

SAMPLES = 8
NEIGHBOURS = 5
CHUNK_VALUES = 2**24  # values of training images compared at a time
CROP = 100 / 256  # of each side: Fig. 12 crops faces of 256 pixels to 100
# The spaces that have features of crops too: Inception resizes, the small classifier takes one size.
ANY_SIZE = "inception", "pixels"
GRAY = 200  # around a crop: unlike the black or white in which digits end
PART = 50_000  # training images after which the neighbours found so far are kept

Distances = Float[np.ndarray, "q k"]
Places = Int[np.ndarray, "q k"]


class Neighbours(NamedTuple):
    """Squared distances from each query to training images, and the indices of those."""

    distances: Distances
    places: Places


def check(run: Run) -> None:
    """Raises ValueError if the training images cannot be read."""
    run.data.open(run.data.split)


def whole(images: Bytes) -> Bytes:
    return images


def centre_slices(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the central crop, which has the fraction of each side that Fig. 12's has."""
    counts = [max(1, round(CROP * size)) for size in (height, width)]
    spans = [((size - n) // 2, n) for size, n in zip((height, width), counts, strict=True)]
    rows, columns = (slice(first, first + count) for first, count in spans)
    return rows, columns


def centre(images: Bytes) -> UInt8[np.ndarray, "n h2 w2 c"]:
    return images[:, *centre_slices(*images.shape[1:3])]


def gray_surround(images: Bytes) -> Bytes:
    """Returns the images with everything but the central crop in gray."""
    crop = centre_slices(*images.shape[1:3])
    masked = np.full_like(images, GRAY)
    masked[:, *crop] = images[:, *crop]
    return masked


class View(NamedTuple):
    """The part of images that is compared, and how a sheet shows it."""

    name: str  # a key of the JSON file, and part of the names of kept files
    crop: Callable[[Bytes], Bytes]
    show: Callable[[Bytes], Bytes]  # of the queries
    headers: tuple[str, str]  # above the queries and above their neighbours


WHOLE = View("whole", whole, whole, ("sample", "nearest training images"))
CENTRE = View(
    "centre", centre, gray_surround, ("centre", "nearest training images by the centre alone")
)


def closest(candidates: Sequence[Neighbours], k: int) -> Neighbours:
    """Each query's k nearest of all candidates, nearest first; of equals, the earlier."""
    distances, places = (np.concatenate(each, axis=1) for each in zip(*candidates, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Neighbours(
        np.take_along_axis(distances, order, axis=1), np.take_along_axis(places, order, axis=1)
    )


def squared_distances(one: Float[np.ndarray, "q d"], other: Float[np.ndarray, "n d"]) -> Distances:
    """Squared Euclidean distances, in float64: those of near vectors are differences of large numbers."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    norms = (one**2).sum(1)[:, None] + (other**2).sum(1)
    return np.maximum(norms - 2.0 * one @ other.T, 0.0)


def search(
    trained: TrainedRun, source: Source, queries: Bytes, space: Space, view: View, k: int
) -> Neighbours:
    """Finds the k images of 'source' nearest to each query, by the features of the view's crop."""
    cropped = view.crop(queries)
    query_vectors = space.features(cropped).vectors
    chunk = max(1, min(1000, CHUNK_VALUES // int(np.prod(source.shape))))

    def search_part(number: int) -> Arrays:
        nearest_so_far = []
        last = min((number + 1) * PART, source.count)
        for first in range(number * PART, last, chunk):
            signals.check(f"in nearest, at training image {first} of {source.count}")
            places = np.arange(first, min(first + chunk, last))
            images = view.crop(pixels.stretch(source.read(places), source.levels))
            distances = squared_distances(query_vectors, space.features(images).vectors)
            candidates = Neighbours(distances, np.tile(places, (len(queries), 1)))
            nearest_so_far = [closest([*nearest_so_far, candidates], k)]
            bar.update(int(places[-1]) + 1 - bar.n)
        return nearest_so_far[0]._asdict()

    with console.progress(f"nearest, {view.name}", source.count, unit="image") as bar:
        height, width = cropped.shape[1:3]
        folder = trained.kept / f"nearest-{space.name}-{view.name}-{height}x{width}"
        parts = resumable.collect(folder, -(-source.count // PART), search_part, lambda: None)
    return closest([Neighbours(**part) for part in parts], k)


def nearest(trained: TrainedRun) -> Figure:
    """Samples, their nearest training images, and those nearest by the centre alone.

    In pixels and, if the run has another feature space, in its features too.
    """
    page, facts = nearest_in(trained, features.pixels())
    pages, by_space = {"": page}, {"pixels": facts}
    other = spaces.available(trained.run)
    if other is not None and other.name != "pixels":
        pages[f"-{other.name}"], by_space[other.name] = nearest_in(trained, other)
    return Figure(pages, by_space)


def views(space: Space) -> tuple[View, ...]:
    """The views that a space has features of."""
    return (WHOLE, CENTRE) if space.name in ANY_SIZE else (WHOLE,)


def nearest_in(trained: TrainedRun, space: Space) -> tuple[plotting.Page, dict[str, Any]]:
    """The sheet and facts of one space, by Euclidean distance. Flipped training images are not searched."""
    queries = samples.first_samples(trained, samples.grid_size(trained))[:SAMPLES]
    source = trained.run.data.open(trained.run.data.split)
    k = min(NEIGHBOURS, source.count)
    rows, across = centre_slices(*queries.shape[1:3])
    facts: dict[str, Any] = {
        "split": trained.run.data.split,
        "training_images": source.count,
        "space": {"name": space.name, **space.settings},
        "numbers": list(range(len(queries))),
        "centre_rows_and_columns": [[side.start, side.stop] for side in (rows, across)],
    }
    columns, headers = [], []
    for view in views(space):
        distances, places = search(trained, source, queries, space, view, k)
        images = pixels.stretch(source.read(places.reshape(-1)), source.levels)
        first = len(headers) // 2 * (k + 1)
        headers += [
            Header(first, first, view.headers[0]),
            Header(first + 1, first + k, view.headers[1]),
        ]
        neighbours = images.reshape(len(queries), k, *queries.shape[1:])
        columns += [view.show(queries)[:, None], neighbours]
        facts[view.name] = {"indices": places.tolist(), "distances": np.sqrt(distances).tolist()}
    breaks = [header.first for header in headers][1:]
    return plotting.sheet(np.concatenate(columns, axis=1), [], headers, breaks), facts
