"""What many images are in a space: of all their statistics, of some their vectors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ddpm_jax.metrics import frechet, inception_score, reference
from ddpm_jax.metrics.features import Bytes, Features, Space, Vectors
from ddpm_jax.runtime import console, resumable, signals

BATCH = 500  # images at a time through a space
KEPT = 10_000  # vectors that are kept, for KID, precision and recall


class Side(NamedTuple):
    """What images are in a space: statistics of all, vectors of some, the Inception Score of all."""

    statistics: frechet.Statistics
    vectors: Vectors | None  # None where a file holds nothing but statistics
    spatial: frechet.Statistics | None
    score: tuple[float, float] | None


def side(chosen: Space, count: int, images: Callable[[np.ndarray], Bytes], what: str) -> Side:
    """The images of rows 0..count - 1, asked for in batches, in a space."""
    found: list[Features] = []
    with console.progress(f"{chosen.name}: {what}", count, unit="image") as bar:
        for rows in np.array_split(np.arange(count), -(-count // BATCH)):
            signals.check(f"in the {chosen.name} features of {what}")
            found.append(chosen.features(images(rows)))
            bar.update(len(rows))
    vectors, logits, spatial = (
        None if found[0][i] is None else np.concatenate([each[i] for each in found])
        for i in range(3)
    )
    return Side(
        frechet.statistics(vectors),
        vectors[:KEPT],
        None if spatial is None else frechet.statistics(spatial),
        None if logits is None else inception_score.inception_score(logits),
    )


def packed(side: Side, space: Space, data: Any) -> resumable.Arrays:
    """As the arrays of a file of statistics, and what more there is; 'data' says what of."""
    found = reference.packed(side.statistics, space, data, side.spatial)
    found["vectors"] = side.vectors
    if side.score is not None:
        found["inception_score"] = np.asarray(side.score)
    return found


def unpacked(kept: resumable.Arrays) -> Side:
    count = int(kept["count"])
    spatial = None
    if "mu_s" in kept:
        spatial = frechet.Statistics(kept["mu_s"], kept["sigma_s"], count)
    all_ = frechet.Statistics(kept["mu"], kept["sigma"], count)
    score = tuple(kept["inception_score"].tolist()) if "inception_score" in kept else None
    return Side(all_, kept["vectors"], spatial, score)
