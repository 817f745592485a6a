"""--mode=import and --mode=export as the command line calls them: with paths and names."""

from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.run.run import Run
from ddpm_jax.weights import exporting, importing
from ddpm_jax.weights import source as sources


def build(config: ConfigDict, directory: epath.Path, source: str, format: str) -> Run:
    """The run that foreign weights become. Raises ValueError where they and the config differ."""
    return importing.build_for(config, directory, sources.read(source, format))


def check_import(run: Run, source: str, format: str) -> None:
    """Raises ValueError for a workdir that holds a run, and for tensors that do not fit."""
    importing.check_import(run, sources.read(source, format))


def import_weights(run: Run, source: str, format: str) -> None:
    """Writes the run of foreign weights."""
    importing.import_weights(run, sources.read(source, format))


def check_export(run: Run, target: str | None, format: str, weights: str) -> None:
    """Raises ValueError for a target that exists, and for a run that the format cannot hold."""
    exporting.check_export(run, target, target_format(format), weights)


def export(run: Run, target: str, format: str, weights: str) -> None:
    """Writes weights or samples to 'target'."""
    exporting.export(run, target, target_format(format), weights)


def target_format(format: str) -> str:
    """The format of what is exported: diffusers unless another is named."""
    return "diffusers" if format == "auto" else format
