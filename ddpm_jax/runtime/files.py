"""Atomic writes, and checks of folders and of names."""

import difflib
import json
import os
import re
import socket
from collections.abc import Iterable
from typing import Any

from etils import epath


def write(path: epath.Path, content: str | bytes, shared: bool = False) -> None:
    """Writes a file atomically: under a temporary name, which is then renamed.

    Only the first process of a run writes. Of a shared file, which other commands may write at the same time, the
    temporary name is this process's own, and the last one's content stays.
    """
    from ddpm_jax.distributed import mesh  # here, because names are checked before jax is loaded

    if not mesh.is_first_process():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f".{socket.gethostname()}-{os.getpid()}" if shared else ""
    temporary = path.with_name(f".{path.name}{own}.tmp")
    with temporary.open("wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
        file.flush()
        if "://" not in str(path):
            os.fsync(file.fileno())  # else a power cut may leave an empty file under the new name
    temporary.replace(path)


def write_json(path: epath.Path, value: Any) -> None:
    write(path, json.dumps(value, indent=2) + "\n")


def check_writable(workdir: epath.Path, *names: str, flag: str = "--workdir") -> None:
    """Raises ValueError, naming the flag, if a local folder workdir/name cannot be made or written to."""
    if "://" in str(workdir):
        return
    for folder in (workdir / name for name in names):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not (existing.is_dir() and os.access(existing, os.W_OK)):
            raise ValueError(f"{flag} {workdir}: {existing} is not a writable folder")


def file_name_part(split: str) -> str:
    """Returns a split's name without special characters: "train-95to" for "train[95%:]"."""
    return re.sub(r"\W+", "-", split.replace("%", "").replace(":", "to")).strip("-")


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns a hint for a misspelt name: the known names close to it, else all known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose from {', '.join(name or repr(name) for name in known)}"
