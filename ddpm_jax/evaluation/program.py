"""--mode=evaluate: evaluates the newest checkpoint, or each checkpoint with --follow."""

from collections.abc import Callable

from ddpm_jax.evaluation import evaluate as newest
from ddpm_jax.evaluation import follow as following
from ddpm_jax.run.run import Run


def evaluate(run: Run, follow: bool, after_step: Callable[[], None]) -> None:
    """Evaluates the newest or the chosen checkpoint, or with 'follow' each as training writes it.

    After each of those 'after_step' is called.
    """
    if follow:
        following.follow(run, after_step)
    else:
        newest.evaluate(run)


def check(run: Run, follow: bool) -> None:
    """Raises ValueError for anything wrong that can be found before the first computation."""
    if follow and run.step is not None:
        raise ValueError("--follow evaluates every checkpoint; leave out --step, or --follow")
    if follow and run.model.classifies:
        raise ValueError(
            f"{run.directory} holds a classifier; --follow evaluates runs that draw samples"
        )
    newest.check(run)
    if follow:
        following.check(run)
