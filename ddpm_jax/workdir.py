"""A run's folder: where things are in it, and which run it belongs to."""

import difflib
import json
import os
import re
from importlib import metadata
from typing import Any

import jax
from etils import epath

from ddpm_jax import parallel

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


def write(path: epath.Path, content: str | bytes) -> None:
    """Writes a file whole or not at all: under another name first, then renamed.

    Of several processes the first does.
    """
    if not parallel.first_process():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
        file.flush()
        if "://" not in str(path):
            os.fsync(file.fileno())  # or a power cut may leave the new name and no content
    temporary.replace(path)


def write_json(path: epath.Path, value: Any) -> None:
    write(path, json.dumps(value, indent=2) + "\n")


def stored(workdir: epath.Path) -> dict | None:
    """The config.json of the run that a folder holds, or None if it holds none.

    Raises ValueError if it is not as it was written.
    """
    path = workdir / "config.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if record["config"].keys() and record["images"].keys() == {"shape", "levels"}:
            return record | {"config": with_later_fields(record["config"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path} is damaged; put back this run's own, or take another --workdir")


def with_later_fields(config: dict) -> dict:
    """A stored config with the fields that there were not yet, as the program then did without them."""
    return {
        name: LATER.get(name, {}) | section if isinstance(section, dict) else section
        for name, section in config.items()
    }


def store(workdir: epath.Path, config: dict, shape: tuple[int, ...], levels: int) -> None:
    """Records a run: its config, and what else makes its files readable without its data set."""
    record = {
        "config": config,
        "images": {"shape": shape, "levels": levels},
        "packages": {package: metadata.version(package) for package in PACKAGES},
        "device": jax.devices()[0].device_kind,
    }
    write_json(workdir / "config.json", record)


def flatten(config: dict, prefix: str = "") -> dict[str, Any]:
    """{"train": {"steps": 1}} to {"train.steps": 1}; tuples become the lists that JSON has."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def check_writable(workdir: epath.Path, *names: str, flag: str = "--workdir") -> None:
    """Raises ValueError, naming the flag, if one of its folders, on this machine, cannot be made or written."""
    if "://" in str(workdir):
        return
    for folder in (workdir / name for name in names):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise ValueError(f"{flag} {workdir}: {there} is no folder that can be written")


def check_same_run(workdir: epath.Path, config: dict) -> None:
    """Raises ValueError, naming every field, if the folder holds a run that this would change."""
    record = stored(workdir)
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


def in_file_name(split: str) -> str:
    """ "train[95%:]" as "train-95to": no sign that a file system or a shell minds."""
    return re.sub(r"\W+", "-", split.replace("%", "").replace(":", "to")).strip("-")


def nearest(name: str, known) -> str:
    """A hint for a misspelt name: the names near it, or if none is near, all there are."""
    close = difflib.get_close_matches(name, list(known), n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there is {', '.join(name or repr(name) for name in sorted(known))}"
