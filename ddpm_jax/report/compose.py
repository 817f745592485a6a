"""Composes a run's page from the files in its folder."""

from ddpm_jax.distributed import mesh
from ddpm_jax.evaluation import results
from ddpm_jax.report import cautions, contents, page
from ddpm_jax.run import state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files


def write(run: Run) -> None:
    """Writes report.html, or raw-report.html of raw weights, and says where it is."""
    if not mesh.is_first_process():
        return
    step = state.step_to_read(run) or 0
    training = results.training_curves(run.directory)
    found = [each for each in results.measurements(run.directory, run.prefix) if each.step <= step]
    parts = [
        contents.heading(run, step),
        contents.numbers_at_a_glance(run, step, found),
        contents.caution_list(cautions.cautions(run, step, found, training)),
        contents.samples(run),
        contents.curves(run, training, found),
        contents.numbers(run, found),
        contents.neighbours(run, cautions.near_copies(run)),
        contents.reproduction(run),
    ]
    path = run.directory / f"{run.prefix}report.html"
    text = page.page(f"{run.directory.name}: report", parts)
    files.write(path, text, shared=True)  # by training and by --follow, which end together
    console.say(f"report   {path}")
