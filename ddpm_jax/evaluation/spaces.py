"""The feature spaces that eval.quality.space names, built for a run."""

import numpy as np

from ddpm_jax.datasets import batches, pixels
from ddpm_jax.metrics import features, small_classifier
from ddpm_jax.metrics.features import Space
from ddpm_jax.metrics.inception import network
from ddpm_jax.metrics.inception import weights as inception_weights
from ddpm_jax.run.run import Run


def classifier(run: Run) -> Space:
    """The features of a small classifier, which is trained now on the training images."""
    source = run.data.open(run.data.split)
    rows = np.arange(source.count)
    images = pixels.stretch(batches.load(source).read(rows), source.levels)
    return small_classifier.classifier(images, source.labels(rows))


def inception(run: Run) -> Space:
    """Inception's features. Raises ValueError if its weights are not configured or cannot be read."""
    weights = inception_weights.read(inception_file(run))
    return network.space(weights, mesh=run.mesh, batch_size=8 * run.mesh.size)


def inception_file(run: Run) -> str:
    path = run.eval.quality.inception
    if not path:
        raise ValueError(f"eval.quality.inception is not set; {inception_weights.GET}")
    return path


def pixel(run: Run) -> Space:
    """The pixels themselves, whatever the run."""
    return features.pixels()


SPACES = {"inception": inception, "classifier": classifier, "pixels": pixel}
FEATURES = {"inception": ("logits", "spatial"), "classifier": ("logits",), "pixels": ()}


def check(run: Run) -> None:
    """Raises ValueError if the space cannot be built: no Inception weights, or no labels."""
    name = run.eval.quality.space
    if name == "inception":
        inception_weights.read(inception_file(run))
    if name == "classifier" and run.data.open(run.data.split).classes < 2:
        raise ValueError(
            f"eval.quality.space is 'classifier', but data set {run.data.name!r} has no labels of"
            " two or more classes; use pixels or inception"
        )


def available(run: Run) -> Space | None:
    """Returns the space to evaluate in; None if eval.quality.samples is 0 or Inception's path is missing."""
    settings = run.eval.quality
    if not settings.samples or (settings.space == "inception" and not settings.inception):
        return None
    return SPACES[settings.space](run)
