"""--mode=evaluate: evaluates the newest checkpoint, or each checkpoint with --follow."""

from ddpm_jax.evaluation import evaluate as newest
from ddpm_jax.evaluation import follow as following
from ddpm_jax.run.run import Run


def evaluate(run: Run, follow: bool) -> None:
    """Evaluates the newest or the chosen checkpoint, or with 'follow' each as training writes it."""
    (following.follow if follow else newest.evaluate)(run)


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
