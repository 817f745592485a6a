"""--mode=evaluate: the variational bound and sample quality of a run's newest checkpoint."""

from collections.abc import Callable

from ddpm_jax.evaluation import accuracy, bound, quality
from ddpm_jax.run.run import Run


def evaluate(run: Run) -> None:
    """Measures the bound of eval.images held-out and eval.train_images training images, and sample quality.

    Classifiers have their accuracy measured instead of the bound.
    """
    evaluate_held_out(run)
    if run.eval.train_images:
        choose_measurement(run)(run, run.data.split, run.eval.train_images)
    quality.quality(run)


def check(run: Run) -> None:
    """Raises ValueError for anything wrong that can be found before the first computation."""
    held_out_images = run.eval.images and run.data.held_out
    if not (held_out_images or run.eval.train_images or run.eval.quality.samples):
        raise ValueError(
            "nothing to evaluate; set --config.eval.images, eval.train_images or eval.quality.samples"
        )
    quality.check(run)
    if held_out_images:
        run.data.open(run.data.held_out)


def evaluate_held_out(run: Run) -> None:
    """Measures eval.images held-out images, if the run has a held-out split."""
    if run.eval.images and run.data.held_out:
        choose_measurement(run)(run, run.data.held_out, run.eval.images)


def choose_measurement(run: Run) -> Callable[[Run, str, int], None]:
    return accuracy.accuracy if run.model.classifies else bound.likelihood
