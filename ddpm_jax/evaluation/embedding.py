"""Image sets embedded in a feature space, in batches and with a progress bar."""

from collections.abc import Callable

import numpy as np

from ddpm_jax.metrics import features, frechet, inception_score
from ddpm_jax.metrics.features import Bytes, Embedding, Features, Space
from ddpm_jax.runtime import console, signals

BATCH = 500  # images embedded at a time
SUBSET = 10_000  # vectors stored for KID, precision and recall


def embed(space: Space, count: int, read: Callable[[np.ndarray], Bytes], label: str) -> Embedding:
    """Returns the embedding of images 0..count - 1, which 'read' returns. Raises Stopped after a signal."""
    parts: list[Features] = []
    with console.progress(f"{space.name}: {label}", count, unit="image") as bar:
        for rows in np.array_split(np.arange(count), -(-count // BATCH)):
            signals.check(f"while computing the {space.name} features of {label}")
            parts.append(space.features(read(rows)))
            bar.update(len(rows))
    vectors, logits, spatial = features.concatenate(parts)
    enough = count >= inception_score.SPLITS
    score = inception_score.inception_score(logits) if enough and logits is not None else None
    return Embedding(
        statistics=frechet.statistics(vectors),
        spatial=None if spatial is None else frechet.statistics(spatial),
        vectors=vectors[:SUBSET],
        inception_score=score,
    )
