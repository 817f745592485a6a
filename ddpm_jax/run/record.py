"""A run's config.json: which run a folder holds, and what may change between two starts."""

import json
from importlib import metadata
from typing import Any

import jax
from etils import epath

from ddpm_jax.runtime import files

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
# What the same run may change between one start and the next; the rest decides its numbers.
FREE = (
    "data.data_dir",
    "data.path",
    "model.dtype",
    "parallel.",
    "train.steps",
    "train.on_nonfinite",
)
FREE += ("sample.", "eval.")
LATER = {
    "sample": {"spacing": "linear", "classifier": ""}
}  # fields that came after a run was stored
CADENCES = ("train.log_every", "train.checkpoint_every", "train.sample_every", "train.keep_every")


def read(workdir: epath.Path) -> dict | None:
    """The config.json of the run that a folder holds, or None if it holds none.

    Raises ValueError if it is not as it was written.
    """
    path = workdir / "config.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if record["config"].keys() and record["images"].keys() == {"shape", "levels"}:
            return record | {"config": add_later_fields(record["config"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path} is damaged; put back this run's own, or take another --workdir")


def add_later_fields(config: dict) -> dict:
    """A stored config with the fields that there were not yet, as the program then did without them."""
    return {
        name: LATER.get(name, {}) | section if isinstance(section, dict) else section
        for name, section in config.items()
    }


def write(workdir: epath.Path, config: dict, shape: tuple[int, ...], levels: int) -> None:
    """Records a run: its config, and what else makes its files readable without its data set."""
    record = {
        "config": config,
        "images": {"shape": shape, "levels": levels},
        "packages": {package: metadata.version(package) for package in PACKAGES},
        "device": jax.devices()[0].device_kind,
    }
    files.write_json(workdir / "config.json", record)


def flatten(config: dict, prefix: str = "") -> dict[str, Any]:
    """{"train": {"steps": 1}} to {"train.steps": 1}; tuples become the lists that JSON has."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def check_same_run(workdir: epath.Path, config: dict) -> None:
    """Raises ValueError, naming every field, if the folder holds a run that this would change."""
    record = read(workdir)
    if record is None:
        return
    before, now = flatten(record["config"]), flatten(config)
    free = (*FREE, *CADENCES)
    changed = [
        f"{field} ({before.get(field, 'unset')} -> {now.get(field, 'unset')})"
        for field in sorted(before.keys() | now.keys())
        if before.get(field) != now.get(field) and not field.startswith(free)
    ]
    if changed:
        raise ValueError(
            f"{workdir} holds a run with another config: {', '.join(changed)};"
            " give this one another --workdir"
        )
