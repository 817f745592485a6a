"""A run's config.json: the run that a folder holds, and the fields that a resume may change."""

import json
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax
from etils import epath

from ddpm_jax.runtime import console, files, metrics_log, user_code

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
    "train.checkpoint_minutes",
    "train.sample_every",
    "train.keep_every",
    "train.tracker",
    "sample.",
    "eval.",
)
RESULTS = ("checkpoints", "samples", "eval", "figures", "codec")  # folders of what training led to
TRAINING_IMAGES = "training-images.png"  # in samples/, written before anything is trained
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint whose save was interrupted
AUTO = "auto"  # the value of a field that fits itself; a run that has a choice stored keeps it
# Fields that older configs lack, with the values that reproduce what the program did without them.
DEFAULTS = {
    "train": {"checkpoint_minutes": 0.0, "tracker": ""},
    "sample": {"spacing": "linear", "classifier": ""},
    "eval": {"quality": {"metrics": []}},
}


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


def add_missing_fields(config: dict, defaults: dict[str, Any] = DEFAULTS) -> dict:
    """Returns a stored config with the fields added that did not exist when it was written.

    Adds no section.
    """
    fields = {name: value for name, value in defaults.items() if not isinstance(value, dict)}
    return fields | {
        name: add_missing_fields(value, defaults.get(name, {}))
        if isinstance(value, dict)
        else value
        for name, value in config.items()
    }


def read_binding(workdir: epath.Path, config: dict) -> dict | None:
    """Returns the record that a config must agree with, or None if it need not agree with any.

    That is so without a config.json, and where nothing was trained with another config's.
    """
    record = read(workdir)
    if record is None or (changed_fields(record, config) and is_untrained(workdir, record)):
        return None
    return record


def is_untrained(workdir: epath.Path, record: dict) -> bool:
    """Returns whether a folder holds no checkpoint, no logged row, and nothing made from either.

    The rows of the first steps, before train.log_every, do not count: without a checkpoint they are lost.
    """
    rows, every = workdir / "metrics.jsonl", flatten(record["config"]).get("train.log_every", 0)
    lines = rows.read_text().splitlines(keepends=True) if rows.exists() else []
    if any(metrics_log.parse_step(line) >= every for line in lines):
        return False
    folders = [workdir / name for name in RESULTS]
    found = [path.name for folder in folders if folder.exists() for path in folder.iterdir()]
    return all(UNFINISHED in name or name == TRAINING_IMAGES for name in found)


def write(
    workdir: epath.Path,
    config: dict,
    shape: tuple[int, ...],
    levels: int,
    labels: Sequence[str] | None = (),
) -> None:
    """Writes config.json: the config, and what makes the run's files readable without its data set.

    'labels' are the names of the network's classes, or None if the run's earlier config.json has none.
    Stores a checksum of each user module that the config names. Says so if it replaces another config,
    with which nothing was trained.
    """
    path = workdir / "config.json"
    if path.exists() and read_binding(workdir, config) is None:
        console.say(f"{path} is of another config, with which nothing was trained; replacing it")
    own = {name: user_code.checksum(name) for _, name in user_names(config)}
    record = {
        "config": config,
        "images": {"shape": shape, "levels": levels},
        **({} if labels is None else {"labels": list(labels)}),
        **({"user_code": own} if own else {}),
        "packages": {package: metadata.version(package) for package in PACKAGES},
        "device": jax.devices()[0].device_kind,
    }
    files.write_json(path, record)


def flatten(config: dict, prefix: str = "") -> dict[str, Any]:
    """Maps {"train": {"steps": 1}} to {"train.steps": 1}, and tuples to lists, as JSON has no tuples."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def user_names(config: dict) -> list[tuple[str, str]]:
    """Returns the fields of a config that name user code, each with the name; see runtime/user_code.py."""
    flat = flatten(config)
    found = []
    for field in user_code.FIELDS:
        value = flat.get(field)
        values = value if isinstance(value, list) else [value]
        found += [(field, name) for name in values if user_code.is_name(name)]
    return found


def changed_fields(record: dict, config: dict) -> dict[str, tuple[Any, Any]]:
    """Returns the fields that decide a run's numbers and differ from its record: their old and new values."""
    before, now = flatten(record["config"]), flatten(config)
    return {
        field: (before.get(field, "unset"), now.get(field, "unset"))
        for field in sorted(before.keys() | now.keys())
        if before.get(field) != now.get(field)
        and not field.startswith(CHANGEABLE)
        and not (field in before and is_auto(now.get(field)))
    }


def is_auto(value: Any) -> bool:
    """Returns whether a value is "auto", which the command line makes a tuple where a tuple was."""
    return value == AUTO or (isinstance(value, tuple | list) and list(value) == [AUTO])


def check_same_run(workdir: epath.Path, config: dict) -> None:
    """Raises ValueError, naming each field that differs, if the folder holds a different run."""
    record = read_binding(workdir, config)
    changed = changed_fields(record, config) if record else {}
    if changed:
        names = ", ".join(f"{field} ({old} -> {new})" for field, (old, new) in changed.items())
        raise ValueError(
            f"{workdir} holds a run with another config: {names};"
            " choose another --workdir for this one"
        )
