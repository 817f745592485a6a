"""A run's config.json: the run that a folder holds, and the fields that a resume may change."""

import json
from importlib import metadata
from typing import Any

import jax
from etils import epath

from ddpm_jax.runtime import files

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
# Prefixes of the fields that a resume may change; all others decide the numbers of the run.
CHANGEABLE = (
    "data.data_dir",
    "data.path",
    "model.dtype",
    "parallel.",
    "train.steps",
    "train.on_nonfinite",
    "train.log_every",
    "train.checkpoint_every",
    "train.sample_every",
    "train.keep_every",
    "sample.",
    "eval.",
)
# Fields that older configs lack, with the values that reproduce what the program did without them.
DEFAULTS = {"sample": {"spacing": "linear", "classifier": ""}}


def read(workdir: epath.Path) -> dict | None:
    """Returns the content of a folder's config.json, or None if there is no such file.

    Raises ValueError if the file is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if record["config"].keys() and record["images"].keys() == {"shape", "levels"}:
            return record | {"config": add_missing_fields(record["config"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path} is damaged; restore it from a backup, or choose another --workdir")


def add_missing_fields(config: dict) -> dict:
    """Returns a stored config with the fields added that did not exist when it was written."""
    return {
        name: DEFAULTS.get(name, {}) | section if isinstance(section, dict) else section
        for name, section in config.items()
    }


def write(workdir: epath.Path, config: dict, shape: tuple[int, ...], levels: int) -> None:
    """Writes config.json: the config, and what makes the run's files readable without its data set."""
    record = {
        "config": config,
        "images": {"shape": shape, "levels": levels},
        "packages": {package: metadata.version(package) for package in PACKAGES},
        "device": jax.devices()[0].device_kind,
    }
    files.write_json(workdir / "config.json", record)


def flatten(config: dict, prefix: str = "") -> dict[str, Any]:
    """Maps {"train": {"steps": 1}} to {"train.steps": 1}, and tuples to lists, as JSON has no tuples."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def check_same_run(workdir: epath.Path, config: dict) -> None:
    """Raises ValueError, naming each field that differs, if the folder holds a different run."""
    record = read(workdir)
    if record is None:
        return
    before, now = flatten(record["config"]), flatten(config)
    changed = [
        f"{field} ({before.get(field, 'unset')} -> {now.get(field, 'unset')})"
        for field in sorted(before.keys() | now.keys())
        if before.get(field) != now.get(field) and not field.startswith(CHANGEABLE)
    ]
    if changed:
        raise ValueError(
            f"{workdir} holds a run with another config: {', '.join(changed)};"
            " choose another --workdir for this one"
        )
