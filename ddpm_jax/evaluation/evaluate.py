"""--mode=evaluate: numbers about a run's newest checkpoint: the variational bound, and scores of samples."""

from collections.abc import Callable

from ddpm_jax.evaluation import accuracy, bound, quality
from ddpm_jax.run.run import Run


def evaluate(run: Run) -> None:
    """The bound of the first eval.images held-out and eval.train_images training images, and scores."""
    held_out(run)
    if run.eval.train_images:
        number_of(run)(run, run.data.split, run.eval.train_images)
    quality.quality(run)


def anything(run: Run) -> bool:
    """Whether the config asks for any number."""
    held_out = run.eval.images and run.data.held_out
    return bool(held_out or run.eval.train_images or run.eval.quality.samples)


def check(run: Run) -> None:
    """Raises ValueError for what can be found wrong before anything is computed."""
    if not anything(run):
        raise ValueError(
            "nothing to evaluate; set --config.eval.images, eval.train_images or eval.quality.samples"
        )
    quality.check(run)
    if run.eval.images and run.data.held_out:
        run.data.open(run.data.held_out)


def held_out(run: Run) -> None:
    """The bound of the held-out images, if there are any and eval.images asks for them."""
    if run.eval.images and run.data.held_out:
        number_of(run)(run, run.data.held_out, run.eval.images)


def number_of(run: Run) -> Callable[[Run, str, int], None]:
    return accuracy.accuracy if run.model.classifies else bound.bound_of
