"""Paths as users type them."""

import glob
import os

from etils import epath

HUB = "hf:"  # begins the name of a repository on Hugging Face's hub


def user_path(text: epath.PathLike) -> epath.Path:
    """Returns a path with ~ expanded. Raises ValueError for ~name without such a user."""
    path = epath.Path(text).expanduser()
    if str(path).startswith("~"):
        raise ValueError(f"{text}: no such user on this machine; ./~name is a folder of that name")
    return path


def absolute(path: epath.Path) -> epath.Path:
    """Returns an absolute path; resolve() would turn a gs:// path into a local one."""
    return path if "://" in str(path) else path.resolve()


def is_on_hub(path: object) -> bool:
    """Returns whether a path is the name of a repository, hf:OWNER/NAME."""
    return str(path).startswith(HUB)


def is_file(path: epath.Path) -> bool:
    """Returns whether a path is a file that ends; epath's is_file() is true of pipes and devices too."""
    return path.is_file() if "://" in str(path) else os.path.isfile(path)


def check_literal(path: epath.Path, name: str) -> None:
    """Raises ValueError, naming the flag or field, for a path that holds a character of glob patterns.

    Orbax and TFDS list a folder by a pattern that begins with its whole path, and find no file under
    "runs/lr=[1e-4]".
    """
    full = absolute(path)
    if glob.has_magic(str(full)):
        raise ValueError(
            f"{name}: {full} contains [, * or ?, which libraries take for a pattern; choose a path"
            " without them"
        )
