"""Config files: Python files whose get_config() returns a ConfigDict."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from ddpm_jax.runtime import paths


def load(spec: str) -> ConfigDict:
    """Returns the config that FILE defines, or the row ROW of a file with several, as FILE:ROW.

    Raises ValueError if the file does not exist or fails.
    """
    file, _, row = spec.partition(":")
    path = paths.user_path(file)
    if not paths.is_file(path):
        raise ValueError(f"--config: {file} does not exist")
    try:
        get_config = runpy.run_path(str(path))["get_config"]
        config = get_config(row) if row else get_config()
        return ConfigDict(config)
    except Exception as error:  # a config file is a program
        raise ValueError(f"--config {spec}: {type(error).__name__}: {error}") from error


def run_name(spec: str) -> str:
    """Returns a run's name: digits for configs/digits.py, ablation-row for configs/ablation.py:row."""
    file, _, row = spec.partition(":")
    return f"{Path(file).stem}-{row}" if row else Path(file).stem
