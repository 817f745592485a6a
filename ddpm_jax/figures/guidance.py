"""What guidance does: every class at several weights, and what a classifier takes it for.

Without a classifier a figure of Ho and Salimans 2022, whose Fig. 1 trades variety for likeness in the same
way; with sample.classifier one of Dhariwal and Nichol 2021, judged by another classifier than that.
"""

import numpy as np

from ddpm_jax.datasets import pixels, source
from ddpm_jax.datasets.source import Bytes
from ddpm_jax.evaluation import quality
from ddpm_jax.figures import trajectories
from ddpm_jax.figures.trajectories import Chains, Floats, Walk
from ddpm_jax.run import run as runs
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Header

WEIGHTS = (0.0, 1.0, 2.0, 4.0)
EACH = 20  # images of a class, at each weight
SHOWN = 2  # rows of them
MOST = 10  # classes


def check(run: Run) -> None:
    """Raises ValueError for a network that guidance is not for, and for data without labels."""
    chain = run.sample.chain
    if not chain.guide and not (run.model.network.classes and run.train.label_dropout):
        raise ValueError(
            "--figures=guidance is of a network with labels, trained with train.label_dropout above"
            " 0, as configs/digits_conditional.py has it, or guided by a sample.classifier"
        )
    classes = sampling.class_count(run.model, chain)
    source.check_classes(run.data.open(run.data.split), classes)


def sampled(trained: Chains, w: float, count: int) -> Floats:
    """Image i is of class i modulo their number; all weights share its noise."""
    run = trained.run
    chain = run.sample.chain._replace(guidance=w, label=runs.ALL)
    run = run._replace(sample=run.sample._replace(chain=chain))
    program = sampling.make_program(run.model, chain)
    walk = Walk((0, program.steps), np.arange(count))
    (seen,) = trajectories.go(trained._replace(run=run, program=program), f"guidance-{w:g}", [walk])
    return seen[-1]


def guidance(trained: Chains) -> Figure:
    """Rows of samples, a column a class; and the part of them that a classifier, which was trained on the
    training images and knows nothing of the network, puts in the class that was asked for.
    """
    run = trained.run
    classes, levels = sampling.class_count(run.model, run.sample.chain), run.model.levels
    labels = np.arange(classes * EACH) % classes
    space = quality.classifier_space(run)

    def right(images: Bytes) -> list[float]:
        taken_for = space.features(images).logits.argmax(axis=1)
        return [float(np.mean(taken_for[labels == k] == k)) for k in range(classes)]

    made = {w: trajectories.shown(sampled(trained, w, len(labels)), levels) for w in WEIGHTS}
    by_class = {f"{w:g}": right(images) for w, images in made.items()}
    held_out = None
    if run.data.held_out:
        source = run.data.open(run.data.held_out)
        rows = np.arange(source.count)
        of_real = space.features(pixels.stretch(source.read(rows), source.levels)).logits
        held_out = float(np.mean(of_real.argmax(axis=1) == source.labels(rows)))
    columns = min(classes, MOST)
    rows = [
        images.reshape(EACH, classes, *images.shape[1:])[:SHOWN, :columns]
        for images in made.values()
    ]
    texts = [f"$w = {w:g}$" if i == 0 else "" for w in WEIGHTS for i in range(SHOWN)]
    headers = [Header(k, k, str(k)) for k in range(columns)]
    facts = {
        "weights_of_guidance": list(WEIGHTS),
        "images_of_a_class": EACH,
        "taken_for_what_was_asked": {w: float(np.mean(each)) for w, each in by_class.items()},
        "by_class": by_class,
        "classifier_right_on_held_out": held_out,
    }
    return Figure({"": plotting.sheet(np.concatenate(rows), texts, headers)}, facts)
