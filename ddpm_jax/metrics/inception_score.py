"""The Inception Score. Salimans et al. 2016 (arXiv:1606.03498), as the authors' code computes it.

It takes samples only, no data: their classes should be certain, and varied.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from ddpm_jax.metrics import features
from ddpm_jax.metrics.features import Embedding
from ddpm_jax.metrics.metric import Metric, Value

SPLITS = 10  # the authors'


def inception_score(logits: Float[np.ndarray, "n k"], splits: int = SPLITS) -> tuple[float, float]:
    """Mean and standard deviation over consecutive splits of exp(mean KL(p(y|x) || p(y))).

    The logits stay in the order given and have no bias, as in metrics/inception, so that the number
    is comparable to the literature. Raises ValueError for NaN, infinity, or fewer images than splits.
    """
    features.check_finite(logits, "logits")
    count = len(logits)
    if not 1 <= splits <= count:
        raise ValueError(f"an Inception Score of {count} images cannot have {splits} splits")
    logits = logits.astype(np.float64)
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    scores = []
    for i in range(splits):
        part = log_p[i * count // splits : (i + 1) * count // splits]
        # In logs: a class that no image belongs to contributes 0, where 0 log 0 would be NaN.
        log_marginal = logsumexp(part, axis=0) - np.log(len(part))
        divergence = (np.exp(part) * (part - log_marginal)).sum(axis=1)
        scores.append(np.exp(divergence.mean()))
    return float(np.mean(scores)), float(np.std(scores))


def embedding_score(images: Embedding) -> Value | None:
    """The score of an image set, if its space is a classifier's."""
    if images.inception_score is None:
        return None
    mean, std = images.inception_score
    return Value(mean, images.statistics.count, std)


INCEPTION_SCORE = Metric(
    name="is",
    function=embedding_score,
    higher_is_better=True,
    needs_reference=False,
    least=SPLITS,
    feature="logits",
)
