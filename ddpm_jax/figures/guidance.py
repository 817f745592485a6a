"""Samples of every class at several guidance scales, and the classes that a classifier assigns to them.

Without sample.classifier, this is a figure for Ho and Salimans 2022, whose Fig. 1 shows the same trade of
variety for fidelity; with it, one for Dhariwal and Nichol 2021, judged by another classifier than the guide.
"""

from typing import cast

import numpy as np
from jaxtyping import Int

from ddpm_jax.datasets import pixels, source
from ddpm_jax.datasets.source import Bytes
from ddpm_jax.evaluation import spaces
from ddpm_jax.figures import trajectories
from ddpm_jax.figures.trajectories import Floats, TrainedRun, Walk
from ddpm_jax.metrics.features import Space
from ddpm_jax.run import run as runs
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Header

SCALES = (0.0, 1.0, 2.0, 4.0)
PER_CLASS = 20  # images of each class at each scale
SHOWN = 2  # of those
MAX_COLUMNS = 10  # classes


def check(run: Run) -> None:
    """Raises ValueError if the network cannot be guided, or the data's labels are not its classes."""
    chain = run.sample.chain
    if not chain.guide and not (run.model.network.classes and run.train.label_dropout):
        raise ValueError(
            "--figures=guidance needs a network with labels, trained with train.label_dropout above 0"
            " (see configs/digits_conditional.py), or the guidance of a sample.classifier"
        )
    classes = sampling.class_count(run.model, chain)
    source.check_classes(run.data.open(run.data.split), classes)


def draw_samples(trained: TrainedRun, scale: float, count: int) -> Floats:
    """Draws images of class (index modulo class count); all guidance scales share their noise."""
    run = trained.run
    chain = run.sample.chain._replace(guidance=scale, label=runs.ALL)
    run = run._replace(sample=run.sample._replace(chain=chain))
    program = sampling.make_program(run.model, chain)
    walk = Walk((0, program.steps), np.arange(count))
    guided = trained._replace(run=run, program=program)
    (snapshots,) = trajectories.run_walks(guided, f"guidance-{scale:g}", [walk])
    return snapshots[-1]


def predict_classes(classifier: Space, images: Bytes) -> Int[np.ndarray, " n"]:
    logits = cast(np.ndarray, classifier.features(images).logits)  # every classifier returns them
    return logits.argmax(axis=1)


def held_out_accuracy(run: Run, classifier: Space) -> float | None:
    """The classifier's accuracy on the held-out split; None if the data set has none."""
    if not run.data.held_out:
        return None
    held_out = run.data.open(run.data.held_out)
    rows = np.arange(held_out.count)
    predictions = predict_classes(classifier, pixels.stretch(held_out.read(rows), held_out.levels))
    return float(np.mean(predictions == held_out.labels(rows)))


def guidance(trained: TrainedRun) -> Figure:
    """Samples with a column for each class, and the fraction that a classifier assigns to that class.

    The classifier is trained on the training images, independently of the network.
    """
    run = trained.run
    classes, levels = sampling.class_count(run.model, run.sample.chain), run.model.levels
    labels = np.arange(classes * PER_CLASS) % classes
    classifier = spaces.classifier(run)

    def accuracies(images: Bytes) -> list[float]:
        predictions = predict_classes(classifier, images)
        return [float(np.mean(predictions[labels == k] == k)) for k in range(classes)]

    by_scale = {
        scale: trajectories.to_bytes(draw_samples(trained, scale, len(labels)), levels)
        for scale in SCALES
    }
    by_class = {f"{scale:g}": accuracies(images) for scale, images in by_scale.items()}
    columns = min(classes, MAX_COLUMNS)
    rows = [
        images.reshape(PER_CLASS, classes, *images.shape[1:])[:SHOWN, :columns]
        for images in by_scale.values()
    ]
    texts = [f"$w = {scale:g}$" if i == 0 else "" for scale in SCALES for i in range(SHOWN)]
    headers = [Header(k, k, str(k)) for k in range(columns)]
    facts = {
        "weights_of_guidance": list(SCALES),
        "images_of_a_class": PER_CLASS,
        "taken_for_what_was_asked": {w: float(np.mean(each)) for w, each in by_class.items()},
        "by_class": by_class,
        "classifier_right_on_held_out": held_out_accuracy(run, classifier),
    }
    return Figure({"": plotting.sheet(np.concatenate(rows), texts, headers)}, facts)
