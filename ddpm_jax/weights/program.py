"""--mode=import and --mode=export: what the command line calls with paths and names of formats."""

from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.run.run import Run
from ddpm_jax.weights import exporting, importing
from ddpm_jax.weights import source as sources


def build(
    config: ConfigDict, directory: epath.Path, source: str, format: str, trust: bool = False
) -> Run:
    """Returns the run of foreign weights. Raises ValueError if they do not fit the config."""
    return importing.build_run(config, directory, sources.read(source, format), trust)


def check_import(run: Run, source: str, format: str) -> None:
    """Raises ValueError if the workdir holds a run, or if a tensor does not fit the network."""
    importing.check_import(run, sources.read(source, format))


def import_weights(run: Run, source: str, format: str) -> None:
    """Writes the run of foreign weights."""
    importing.import_weights(run, sources.read(source, format))


def check_export(run: Run, target: str | None, format: str) -> None:
    """Raises ValueError if the target exists, or if the format cannot express the run."""
    exporting.check_export(run, target, target_format(format))


def export(run: Run, target: str, format: str) -> None:
    """Writes weights or samples to 'target'."""
    exporting.export(run, target, target_format(format))


def target_format(format: str) -> str:
    """Returns the format to export: diffusers instead of "auto"."""
    return "diffusers" if format == "auto" else format
