"""--mode=report: one page about a run, in one file that opens offline and can be sent by mail."""

from ddpm_jax.figures import program
from ddpm_jax.report import compose
from ddpm_jax.run import state
from ddpm_jax.run.run import Run

DRAWN = ("film", "nearest")  # figures that the page shows


def report(run: Run) -> None:
    """Draws the figures that the page shows, unless they are there, then writes the page."""
    missing = missing_figures(run)
    if missing:
        program.figures(run, missing)
    compose.write(run)


def check(run: Run) -> None:
    """Raises ValueError for anything wrong that can be found before a figure is drawn."""
    missing = missing_figures(run)
    if missing:
        program.check(run, missing)


def missing_figures(run: Run) -> list[str]:
    """Returns the figures of the page that the checkpoint to read does not have; a classifier has none."""
    step, folder = state.step_to_read(run), run.directory / "figures"
    names = () if run.model.classifies else DRAWN
    return [name for name in names if not (folder / f"{step}-{run.prefix}{name}.json").exists()]
