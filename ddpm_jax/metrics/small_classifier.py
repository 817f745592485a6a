"""A feature space for small labelled images: a classifier that is trained on demand, in seconds.

Runs without Inception's weights can use it. Its numbers can be compared only with those of the same data
set, and with their floor: the distance of held-out images from training images.
"""

import hashlib
import warnings

import numpy as np
from jaxtyping import Int

from ddpm_jax.metrics.features import Bytes, Features, Space

HIDDEN = (64, 32)  # the last layer is the feature space
EPOCHS = 60  # at most


def classifier(images: Bytes, labels: Int[np.ndarray, " n"]) -> Space:
    """Trains the classifier; its features are the last hidden layer's activations, and its logits.

    Raises ValueError if the images have only one class.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError(
            "eval.quality.space=classifier needs images of two or more classes; use pixels or"
            " inception"
        )

    from sklearn.exceptions import ConvergenceWarning  # a second to import
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(HIDDEN, random_state=0, max_iter=EPOCHS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopping at EPOCHS is intended
        network.fit(flatten(images), labels)
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))

    def features(images: Bytes) -> Features:
        vectors = flatten(images)
        for weights, bias in layers[:-1]:
            vectors = np.maximum(vectors @ weights + bias, 0.0)
        logits = vectors @ layers[-1][0] + layers[-1][1]
        if logits.shape[1] == 1:  # scikit-learn has one logit for two classes
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return Features(vectors.astype(np.float32), logits.astype(np.float32))

    weights = b"".join(array.tobytes() for layer in layers for array in layer)
    settings = {"hidden": list(HIDDEN), "weights": hashlib.sha256(weights).hexdigest()[:16]}
    return Space("classifier", settings, features)


def flatten(images: Bytes) -> np.ndarray:
    """Pixels in 0..1, one row per image."""
    return images.reshape(len(images), -1).astype(np.float32) / 255.0
