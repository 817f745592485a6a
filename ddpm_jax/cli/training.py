"""--mode=train: trains, then measures the held-out bound."""

from ddpm_jax.datasets import source
from ddpm_jax.evaluation import evaluate
from ddpm_jax.report import compose
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, lock, tracker
from ddpm_jax.training import train


def train_and_measure(run: Run) -> None:
    """Trains, measures the held-out bound, writes the report, and prints where the results are."""
    train.train(run)
    try:
        evaluate.evaluate_held_out(run)
    except lock.InUse as error:
        console.say(f"no bound: {error}")
    compose.write(run)
    grids = sorted(
        (run.directory / "samples").glob("*-grid.png"), key=lambda path: path.stat().mtime
    )
    if grids:
        console.say(f"samples  {grids[-1]}")
    advice = f"sample from it: ddpm sample {run.directory}"
    if run.model.classifies:
        advice = (
            f"guide another run's samples by it with --config.sample.classifier={run.directory}"
        )
    console.say(f"run      {run.directory}; {advice}")


def check(run: Run) -> None:
    """Raises ValueError for a missing split, other labels than the network's classes, a tracker that is not installed."""
    tracker.check(run.train.tracker)
    source.check_classes(run.data.open(run.data.split), run.model.network.classes)
    if run.eval.images and run.data.held_out:
        run.data.open(run.data.held_out)
