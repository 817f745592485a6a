"""Files written whole or not at all, and what a run's folder may hold."""

import difflib
import json
import os
import re
from typing import Any

from etils import epath

from ddpm_jax.distributed import mesh


def write(path: epath.Path, content: str | bytes) -> None:
    """Writes a file whole or not at all: under another name first, then renamed.

    Of several processes the first does.
    """
    if not mesh.is_first_process():
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


def check_writable(workdir: epath.Path, *names: str, flag: str = "--workdir") -> None:
    """Raises ValueError, naming the flag, if one of its folders, on this machine, cannot be made or written."""
    if "://" in str(workdir):
        return
    for folder in (workdir / name for name in names):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise ValueError(f"{flag} {workdir}: {there} is not a writable folder")


def file_name_part(split: str) -> str:
    """ "train[95%:]" as "train-95to": no sign that a file system or a shell minds."""
    return re.sub(r"\W+", "-", split.replace("%", "").replace(":", "to")).strip("-")


def suggest(name: str, known) -> str:
    """A hint for a misspelt name: the names near it, or if none is near, all there are."""
    close = difflib.get_close_matches(name, list(known), n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there is {', '.join(name or repr(name) for name in sorted(known))}"
