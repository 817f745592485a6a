"""The stored config of a run: what a command without --config starts from."""

from typing import Any

from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.run import record


def get_config(folder: epath.PathLike) -> ConfigDict:
    """Returns the config of the run in a folder. Raises ValueError if the folder holds no run."""
    stored = record.read(epath.Path(folder))
    if stored is None:
        raise ValueError(f"{folder} holds no run")
    return ConfigDict(lists_to_tuples(stored["config"]))


def lists_to_tuples(value: Any) -> Any:
    """Returns a JSON value with its lists, at any depth, as tuples: a config has no lists."""
    if isinstance(value, dict):
        return {key: lists_to_tuples(item) for key, item in value.items()}
    return tuple(lists_to_tuples(item) for item in value) if isinstance(value, list) else value
