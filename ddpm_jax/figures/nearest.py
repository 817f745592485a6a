"""Figures 12 and 15: the training images nearest to samples, to see that none is copied."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from ddpm_jax import data, parts, report, stopping
from ddpm_jax.data import Bytes, Source
from ddpm_jax.figures import page, samples
from ddpm_jax.figures.chains import Trained
from ddpm_jax.figures.page import Drawn, Header
from ddpm_jax.parts import Arrays
from ddpm_jax.scores import space
from ddpm_jax.scores.space import Space

SAMPLES = 8
NEIGHBOURS = 5
TOGETHER = 2**24  # values of training images that are compared at a time
PART = 50_000  # training images after which what was found is kept

Distances = Float[np.ndarray, "q k"]
Places = Int[np.ndarray, "q k"]
View = Callable[[Bytes], Bytes]


def whole(images: Bytes) -> Bytes:
    return images


def middle(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the crop at the centre, half of each. Fig. 12 crops 100 of 256, faces."""
    spans = [((size - size // 2) // 2, size // 2) for size in (height, width)]
    rows, columns = (slice(first, first + max(count, 1)) for first, count in spans)
    return rows, columns


def crop(images: Bytes) -> Bytes:
    return images[:, *middle(*images.shape[1:3])]


def faded(images: Bytes) -> Bytes:
    """All but the crop paled: what is compared, and where it is."""
    pale = 255 - (255 - images) // 4
    inside = middle(*images.shape[1:3])
    pale[:, *inside] = images[:, *inside]
    return pale


def smallest(distances: Distances, places: Places, k: int) -> tuple[Distances, Places]:
    """Each query's k nearest, nearest first, earlier images first among equals."""
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(places, order, 1)


def squared(one: Float[np.ndarray, "q d"], other: Float[np.ndarray, "n d"]) -> Distances:
    """Squared Euclidean distances; in float64, the squares of near vectors cancel."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    norms = (one**2).sum(1)[:, None] + (other**2).sum(1)
    return np.maximum(norms - 2.0 * one @ other.T, 0.0)


def search(
    trained: Trained, source: Source, queries: Bytes, of: Space, views: list[View], k: int
) -> list[tuple[Distances, Places]]:
    """The k nearest of all images of 'source' to each query, once for every view of them."""
    wanted = [of.features(view(queries)).vectors for view in views]
    chunk = max(1, min(1000, TOGETHER // int(np.prod(source.shape))))
    count = -(-source.count // PART)

    def part(number: int) -> Arrays:
        found = [(np.empty((len(queries), 0)), np.empty((len(queries), 0), int)) for _ in views]
        last = min((number + 1) * PART, source.count)
        for first in range(number * PART, last, chunk):
            stopping.check(f"in nearest, at training image {first} of {source.count}")
            places = np.arange(first, min(first + chunk, last))
            images = data.stretch(source.read(places), source.levels)
            for v, view in enumerate(views):
                here = squared(wanted[v], of.features(view(images)).vectors)
                there = np.broadcast_to(places, here.shape)
                both = [
                    np.concatenate(pair, 1) for pair in zip(found[v], (here, there), strict=True)
                ]
                found[v] = smallest(*both, k)
            bar.update(places[-1] + 1 - bar.n)
        return {
            f"{name}{v}": a for v, f in enumerate(found) for name, a in zip("dp", f, strict=True)
        }

    with report.progress("nearest", source.count, unit="image") as bar:
        made = parts.collect(trained.kept / f"nearest-{of.name}", count, part, lambda: None)
    joined = [
        [np.concatenate([p[f"{n}{v}"] for p in made], 1) for n in "dp"] for v in range(len(views))
    ]
    return [smallest(*each, k) for each in joined]


def nearest(trained: Trained, of: Space | None = None) -> Drawn:
    """Samples, their nearest training images, and those nearest by the centre alone.

    In the space of the pixels, or in that of 'of'; distances are Euclidean. Flipped training
    images are not looked through.
    """
    of = of or space.pixels()
    queries = samples.first_samples(trained, samples.grid_size(trained))[:SAMPLES]
    source = trained.run.data.open(trained.run.data.split)
    k = min(NEIGHBOURS, source.count)
    found = search(trained, source, queries, of, [whole, crop], k)
    columns = []
    for leads, (_, places) in zip((queries, faded(queries)), found, strict=True):
        images = data.stretch(source.read(places.reshape(-1)), source.levels)
        columns += [leads[:, None], images.reshape(len(queries), k, *queries.shape[1:])]
    box = middle(*queries.shape[1:3])
    size = "x".join(str(side.stop - side.start) for side in box)
    headers = [Header(0, 0, "sample"), Header(1, k, "nearest training images")]
    headers += [
        Header(k + 1, k + 1, "its centre"),
        Header(k + 2, 2 * k + 1, f"nearest by {size} at the centre"),
    ]
    figure = page.sheet(np.concatenate(columns, 1), [], headers, breaks=(1, k + 1, k + 2))
    facts = {
        "split": trained.run.data.split,
        "training_images": source.count,
        "space": {"name": of.name, **of.settings},
        "numbers": list(range(len(queries))),
        "crop": [[side.start, side.stop] for side in box],
    }
    for name, (distances, places) in zip(("whole", "centre"), found, strict=True):
        facts[name] = {"indices": places.tolist(), "distances": np.sqrt(distances).tolist()}
    return Drawn({"": figure}, facts)
