"""--mode=evaluate: measures a run and, with --follow, writes its report after each step."""

from ddpm_jax.evaluation import program
from ddpm_jax.report import compose
from ddpm_jax.run.run import Run


def evaluate_and_report(run: Run, follow: bool) -> None:
    """Evaluates the newest or the chosen checkpoint, or with 'follow' each as training writes it."""
    program.evaluate(run, follow, lambda: compose.write(run))
