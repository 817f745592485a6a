"""The Inception Score. Salimans et al. 2016 (arXiv:1606.03498), as the authors' code computes it.

It knows no data, only samples: their classes should be certain, and many.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from ddpm_jax.metrics import frechet


def inception_score(logits: Float[np.ndarray, "n k"], splits: int = 10) -> tuple[float, float]:
    """Mean and standard deviation over consecutive splits of exp(mean KL(p(y|x) || p(y))).

    The logits in the order given, not shuffled; without the bias, as 'inception' has them, for a
    number that papers can be held against. Raises ValueError for NaN, infinity, or fewer images
    than splits.
    """
    frechet.check_finite(logits, "logits")
    count = len(logits)
    if not 1 <= splits <= count:
        raise ValueError(f"an Inception Score of {count} images cannot have {splits} splits")
    logits = logits.astype(np.float64)
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    scores = []
    for i in range(splits):
        part = log_p[i * count // splits : (i + 1) * count // splits]
        # In logs: a class that none of the images is takes no part, where 0 log 0 would be NaN.
        log_marginal = logsumexp(part, axis=0) - np.log(len(part))
        divergence = (np.exp(part) * (part - log_marginal)).sum(axis=1)
        scores.append(np.exp(divergence.mean()))
    return float(np.mean(scores)), float(np.std(scores))
