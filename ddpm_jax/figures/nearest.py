"""Figures 12 and 15: the training images nearest to samples, to show whether any is copied, and how many are."""

import functools
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt64

from ddpm_jax.datasets import batches, pixels
from ddpm_jax.datasets.source import Bytes, Source
from ddpm_jax.evaluation import spaces
from ddpm_jax.figures import samples
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.metrics import features, near_copies
from ddpm_jax.metrics.features import Space
from ddpm_jax.run import sampling
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
MEASURED = 256  # samples among which near copies are counted, and as many held-out images

Distances = Float[np.ndarray, "q k"]
Places = Int[np.ndarray, "q k"]


class Neighbours(NamedTuple):
    """Squared distances from each query to different training images, their indices and their digests."""

    distances: Distances
    places: Places
    digests: UInt64[np.ndarray, "q k"]


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


def closest(candidates: Neighbours, k: int) -> Neighbours:
    """Each query's k nearest of the candidates, nearest first; of equals, the earlier."""
    order = np.argsort(candidates.distances, axis=1, kind="stable")[:, :k]
    return Neighbours(*(np.take_along_axis(each, order, axis=1) for each in candidates))


def merge(one: Neighbours, other: Neighbours, k: int) -> Neighbours:
    """Each query's k nearest of both; an image that is in both counts once."""
    repeated = (one.digests[:, :, None] == other.digests[:, None, :]).any(axis=1)
    other = other._replace(distances=np.where(repeated, np.inf, other.distances))
    joined = (np.concatenate(pair, axis=1) for pair in zip(one, other, strict=True))
    return closest(Neighbours(*joined), k)


def digest(images: Bytes) -> UInt64[np.ndarray, " n"]:
    """Returns a number for each image that only equal images share."""
    hashed = b"".join(blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(hashed, np.uint64)


def squared_distances(one: Float[np.ndarray, "q d"], other: Float[np.ndarray, "n d"]) -> Distances:
    """Squared Euclidean distances, in float64: those of near vectors are differences of large numbers."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    norms = (one**2).sum(1)[:, None] + (other**2).sum(1)
    return np.maximum(norms - 2.0 * one @ other.T, 0.0)


def search(
    trained: TrainedRun, source: Source, queries: Bytes, space: Space, view: View, k: int
) -> Neighbours:
    """Finds the k images of 'source' nearest to each query, by the features of the view's crop.

    Of training images whose crops are equal there is only the first; fewer than k if there are no more.
    """
    cropped = view.crop(queries)
    query_vectors = space.features(cropped).vectors
    chunk = max(1, min(1000, CHUNK_VALUES // int(np.prod(source.shape))))

    def search_part(number: int) -> Arrays:
        nearest_so_far = None
        last = min((number + 1) * PART, source.count)
        for first in range(number * PART, last, chunk):
            signals.check(f"in nearest, at training image {first} of {source.count}")
            places = np.arange(first, min(first + chunk, last))
            images = view.crop(pixels.stretch(source.read(places), source.levels))
            digests, firsts = np.unique(digest(images), return_index=True)
            distances = squared_distances(query_vectors, space.features(images[firsts]).vectors)
            columns = (np.tile(each, (len(queries), 1)) for each in (places[firsts], digests))
            found = closest(Neighbours(distances, *columns), k)
            nearest_so_far = merge(nearest_so_far, found, k) if nearest_so_far else found
            bar.update(int(places[-1]) + 1 - bar.n)
        assert nearest_so_far is not None  # a split holds an image
        return nearest_so_far._asdict()

    with console.progress(f"nearest, {view.name}", source.count, unit="image") as bar:
        height, width = cropped.shape[1:3]
        folder = trained.kept / f"nearest-{space.name}-{view.name}-{len(queries)}-{height}x{width}"
        parts = resumable.collect(folder, -(-source.count // PART), search_part, lambda: None)
    found = functools.reduce(
        lambda one, other: merge(one, other, k), [Neighbours(**part) for part in parts]
    )
    kept = np.isfinite(found.distances).all(axis=0)
    return Neighbours(*(each[:, kept] for each in found))


def nearest(trained: TrainedRun) -> Figure:
    """Samples, their nearest training images, and those nearest by the centre alone; the share of near copies.

    In pixels and, if the run has another feature space, in its features too.
    """
    space, source = features.pixels(), trained.run.data.open(trained.run.data.split)
    images, held_out = measured_samples(trained), held_out_images(trained)
    found = search(trained, source, np.concatenate([images, held_out]), space, WHOLE, NEIGHBOURS)
    copies = near_copies.measure(found.distances, len(images))
    console.say(near_copies.describe(copies))
    facts: dict[str, Any] = {"near_copies": copies}
    queries = images[:SAMPLES]
    shown = Neighbours(*(each[: len(queries)] for each in found))
    pages = {}
    pages[""], facts["pixels"] = nearest_in(trained, source, space, queries, shown)
    other = spaces.available(trained.run)
    if other is not None and other.name != "pixels":
        shown = search(trained, source, queries, other, WHOLE, NEIGHBOURS)
        page, facts[other.name] = nearest_in(trained, source, other, queries, shown)
        pages[f"-{other.name}"] = page
    note = f"near copies: {copies['share']:.1%} of {len(images)} samples" if copies else ""
    return Figure(pages, facts, note=note)


def measured_samples(trained: TrainedRun) -> Bytes:
    """Returns the samples among which near copies are counted: those that there are, or drawn now."""
    found = sampling.find_samples(trained.run, trained.step, MEASURED)
    if found is None:
        found = samples.first_samples(trained, samples.grid_size(trained))
    return found


def held_out_images(trained: TrainedRun) -> Bytes:
    """Returns as many held-out images, chosen by sample.seed, or all of them; none without such a split."""
    run = trained.run
    if not run.data.held_out:
        return np.empty((0, *run.model.shape), np.uint8)
    source = run.data.open(run.data.held_out)
    count = min(MEASURED, source.count)
    indices = batches.batch_indices(source.count, run.sample.seed, count, 0)
    return pixels.stretch(source.read(indices), source.levels)


def views(space: Space) -> tuple[View, ...]:
    """The views that a space has features of."""
    return (WHOLE, CENTRE) if space.name in ANY_SIZE else (WHOLE,)


def nearest_in(
    trained: TrainedRun, source: Source, space: Space, queries: Bytes, found: Neighbours
) -> tuple[plotting.Page, dict[str, Any]]:
    """The sheet and facts of one space, by Euclidean distance. Flipped training images are not searched.

    'found' are the neighbours of the whole images.
    """
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
        if view is not WHOLE:
            found = search(trained, source, queries, space, view, NEIGHBOURS)
        distances, places, _ = found
        k = places.shape[1]
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
