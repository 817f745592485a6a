"""Image sets embedded in a feature space, in batches and with a progress bar."""

from collections.abc import Callable

import numpy as np

from ddpm_jax.metrics import frechet, inception_score
from ddpm_jax.metrics.features import Bytes, Embedding, Features, Space
from ddpm_jax.runtime import console, signals

BATCH = 500  # images embedded at a time
SUBSET = 10_000  # vectors that are stored, for KID, precision and recall


def embed(space: Space, count: int, read: Callable[[np.ndarray], Bytes], what: str) -> Embedding:
    """The embedding of images 0..count - 1, as 'read' returns them. Raises Stopped when asked to."""
    parts: list[Features] = []
    with console.progress(f"{space.name}: {what}", count, unit="image") as bar:
        for rows in np.array_split(np.arange(count), -(-count // BATCH)):
            signals.check(f"in the {space.name} features of {what}")
            parts.append(space.features(read(rows)))
            bar.update(len(rows))
    vectors = np.concatenate([part.vectors for part in parts])
    spatial = score = None
    if parts[0].spatial is not None:
        spatial = frechet.statistics(np.concatenate([part.spatial for part in parts]))
    if parts[0].logits is not None:
        logits = np.concatenate([part.logits for part in parts])
        score = inception_score.inception_score(logits)
    return Embedding(
        statistics=frechet.statistics(vectors),
        spatial=spatial,
        vectors=vectors[:SUBSET],
        inception_score=score,
    )
