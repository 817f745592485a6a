"""Figures 12 and 15: the training images nearest to samples, to see that none is copied."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from ddpm_jax.datasets import pixels
from ddpm_jax.datasets.source import Bytes, Source
from ddpm_jax.evaluation import quality
from ddpm_jax.figures import samples
from ddpm_jax.figures.trajectories import Chains
from ddpm_jax.metrics import features
from ddpm_jax.metrics.features import Space
from ddpm_jax.runtime import console, plotting, resumable, signals
from ddpm_jax.runtime.plotting import Figure, Header
from ddpm_jax.runtime.resumable import Arrays

SAMPLES = 8
NEIGHBOURS = 5
TOGETHER = 2**24  # values of training images that are compared at a time
GRAY = 200  # around a crop: neither the black nor the white that digits end in
PART = 50_000  # training images after which what was found is kept

Distances = Float[np.ndarray, "q k"]
Places = Int[np.ndarray, "q k"]
View = Callable[[Bytes], Bytes]


class Found(NamedTuple):
    """Of each query, squared distances and which training images they are to."""

    distances: Distances
    places: Places


def whole(images: Bytes) -> Bytes:
    return images


def middle(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the crop at the centre, half of each. Fig. 12 crops 100 of 256, faces."""
    spans = [((size - size // 2) // 2, size // 2) for size in (height, width)]
    rows, columns = (slice(first, first + max(count, 1)) for first, count in spans)
    return rows, columns


def centre(images: Bytes) -> UInt8[np.ndarray, "n h2 w2 c"]:
    return images[:, *middle(*images.shape[1:3])]


def cut_out(images: Bytes) -> Bytes:
    """The crop, where it is, on gray."""
    inside = middle(*images.shape[1:3])
    seen = np.full_like(images, GRAY)
    seen[:, *inside] = images[:, *inside]
    return seen


def closest(found: Sequence[Found], k: int) -> Found:
    """Each query's k nearest of all that was found, nearest first, earlier images among equals."""
    distances, places = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Found(*(np.take_along_axis(each, order, axis=1) for each in (distances, places)))


def squared(one: Float[np.ndarray, "q d"], other: Float[np.ndarray, "n d"]) -> Distances:
    """Squared Euclidean distances, in float64: near vectors' are differences of large numbers."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    norms = (one**2).sum(1)[:, None] + (other**2).sum(1)
    return np.maximum(norms - 2.0 * one @ other.T, 0.0)


def search(trained: Chains, source: Source, queries: Bytes, of: Space, view: View, k: int) -> Found:
    """The k nearest of all images of 'source' to each query, by what 'view' leaves of them."""
    wanted = of.features(view(queries)).vectors
    chunk = max(1, min(1000, TOGETHER // int(np.prod(source.shape))))

    def part(number: int) -> Arrays:
        found = []
        last = min((number + 1) * PART, source.count)
        for first in range(number * PART, last, chunk):
            signals.check(f"in nearest, at training image {first} of {source.count}")
            places = np.arange(first, min(first + chunk, last))
            images = view(pixels.stretch(source.read(places), source.levels))
            distances = squared(wanted, of.features(images).vectors)
            here = Found(distances, np.tile(places, (len(queries), 1)))
            found = [closest([*found, here], k)]
            bar.update(int(places[-1]) + 1 - bar.n)
        return found[0]._asdict()

    with console.progress(f"nearest, {view.__name__}", source.count, unit="image") as bar:
        kept = trained.kept / f"nearest-{of.name}-{view.__name__}"
        made = resumable.collect(kept, -(-source.count // PART), part, lambda: None)
    return closest([Found(**part) for part in made], k)


def nearest(trained: Chains) -> Figure:
    """Samples, their nearest training images, and those nearest by the centre alone.

    In pixels and, where the run's scores have another space, in its features as well.
    """
    figure, facts = nearest_in(trained, features.pixels(), (whole, centre))
    pages, by_space = {"": figure}, {"pixels": facts}
    other = quality.available_space(trained.run)
    if other is not None and other.name != "pixels":
        # Its vectors are of whole images; some spaces know no others.
        pages[f"-{other.name}"], by_space[other.name] = nearest_in(trained, other, (whole,))
    return Figure(pages, by_space)


def nearest_in(
    trained: Chains, of: Space, views: Sequence[View]
) -> tuple[plotting.Page, dict[str, Any]]:
    """By Euclidean distance. Flipped training images are not looked through."""
    queries = samples.first_samples(trained, samples.grid_size(trained))[:SAMPLES]
    source = trained.run.data.open(trained.run.data.split)
    k = min(NEIGHBOURS, source.count)
    found = {view: search(trained, source, queries, of, view, k) for view in views}
    columns, headers = [], []
    for view in views:
        images = source.read(found[view].places.reshape(-1))
        images = pixels.stretch(images, source.levels)
        lead, names = SHEET[view]
        first = len(headers) // 2 * (k + 1)
        headers += [Header(first, first, names[0]), Header(first + 1, first + k, names[1])]
        columns += [lead(queries)[:, None], images.reshape(len(queries), k, *queries.shape[1:])]
    breaks = [header.first for header in headers][1:]
    figure = plotting.sheet(np.concatenate(columns, axis=1), [], headers, breaks)
    rows, across = middle(*queries.shape[1:3])
    facts = {
        "split": trained.run.data.split,
        "training_images": source.count,
        "space": {"name": of.name, **of.settings},
        "numbers": list(range(len(queries))),
        "centre_rows_and_columns": [[side.start, side.stop] for side in (rows, across)],
    }
    for view, (distances, places) in found.items():
        lists = {"indices": places.tolist(), "distances": np.sqrt(distances).tolist()}
        facts[view.__name__] = lists
    return figure, facts


SHEET = {  # how a view's queries look, and the headers above them and what is found
    whole: (whole, ("sample", "nearest training images")),
    centre: (cut_out, ("centre", "nearest training images by the centre alone")),
}
