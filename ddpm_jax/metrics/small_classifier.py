"""A feature space for small labelled images: a classifier trained on the spot, in seconds.

So a run without Inception's weights has a number too. It means something beside numbers of the same
data set only, and beside its own floor: the distance of held-out images from training images.
"""

import hashlib
import warnings

import numpy as np
from jaxtyping import Int

from ddpm_jax.metrics.features import Bytes, Features, Space

HIDDEN = (64, 32)  # the last one is the space
PASSES = 60  # over the images, at most


def classifier(images: Bytes, labels: Int[np.ndarray, " n"]) -> Space:
    """The activations behind the last hidden layer; logits are the classes'.

    Raises ValueError if there is but one class.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError(
            "eval.space classifier needs images of two classes or more; take pixels or inception"
        )
    from sklearn.exceptions import ConvergenceWarning  # a second to import
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(HIDDEN, random_state=0, max_iter=PASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # PASSES is our choice
        network.fit(scaled(images), labels)
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))

    def features(images: Bytes) -> Features:
        vectors = scaled(images)
        for weights, bias in layers[:-1]:
            vectors = np.maximum(vectors @ weights + bias, 0.0)
        logits = vectors @ layers[-1][0] + layers[-1][1]
        if logits.shape[1] == 1:  # of two classes scikit-learn keeps one logit
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return Features(vectors.astype(np.float32), logits.astype(np.float32))

    weights = b"".join(array.tobytes() for layer in layers for array in layer)
    settings = {"hidden": list(HIDDEN), "weights": hashlib.sha256(weights).hexdigest()[:16]}
    return Space("classifier", settings, features)


def scaled(images: Bytes) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255.0
