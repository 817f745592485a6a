"""The files of a folder and its subfolders, each real file and folder once, whatever links there are."""

import json
import os
import unicodedata
from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from etils import epath

from ddpm_jax.runtime import signals


class Listing(NamedTuple):
    """The files of a folder, by their paths relative to it, and those entries that are left out."""

    files: list[str]
    repeated: list[str]  # links to a file or folder that is listed already
    special: list[str]  # dangling links, pipes, sockets and devices
    unreadable: list[str]  # folders
    runs: list[str]  # folders of runs and of prepared data sets

    def describe(self) -> list[str]:
        """Returns a line for each kind of entry that is left out."""
        kinds = {
            "a link to something already listed": self.repeated,
            "a dangling link, a pipe or a device": self.special,
            "a folder that may not be read": self.unreadable,
            "the folder of a run, or of prepared data": self.runs,
        }
        return [
            f"left out {escape(names[0])}, {kind}"
            + f", and {len(names) - 1} more" * (len(names) > 1)
            for kind, names in kinds.items()
            if names
        ]


def list_files(root: epath.Path, excluded: Collection[epath.Path] = ()) -> Listing:
    """Lists a folder without hidden files, the folders of runs, and the 'excluded' folders.

    Real folders come before links to them, so that a link never takes the place of what it leads to.
    """
    listing = Listing([], [], [], [], [])
    if "://" in str(root):
        listing.files.extend(list_remote(root))
        return listing
    top = os.path.realpath(root)
    left_out = {os.path.realpath(folder) for folder in excluded}
    seen, folders, links = {top}, deque([("", top)]), deque()

    def place(name: str, real: str, is_folder: bool, is_file: bool) -> None:
        if real in seen:
            listing.repeated.append(name)
            return
        seen.add(real)
        if is_folder and (real in left_out or holds_run(real)):
            listing.runs.append(name)
        elif is_folder:
            folders.append((f"{name}/", real))
        else:
            (listing.files if is_file else listing.special).append(name)

    while folders or links:
        signals.check("while listing files")
        if folders:
            prefix, folder = folders.popleft()
            try:
                found = visible_entries(folder)
            except PermissionError:
                listing.unreadable.append(prefix.rstrip("/") or ".")
                continue
            for entry in found:
                name = prefix + entry.name
                if entry.is_symlink():
                    links.append((name, entry.path))
                else:
                    place(name, entry.path, entry.is_dir(), entry.is_file())
        else:
            name, path = links.popleft()
            place(name, os.path.realpath(path), os.path.isdir(path), os.path.isfile(path))
    return listing


def visible_entries(folder: str) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: entry.name)


def holds_run(folder: str) -> bool:
    """Returns whether a folder is a run's workdir."""
    path = os.path.join(folder, "config.json")
    if not os.path.isfile(path):
        return False
    try:
        with open(path) as file:
            return {"config", "images"} <= json.load(file).keys()
    except (OSError, ValueError, AttributeError):
        return False


def list_remote(folder: epath.Path, prefix: str = "") -> list[str]:
    """Lists the files of a bucket's folder, where there are no links."""
    names = []
    for path in folder.iterdir():
        name = prefix + path.name
        if not path.name.startswith("."):
            names += list_remote(path, f"{name}/") if path.is_dir() else [name]
    return names


def escape(name: str) -> str:
    """Returns a file's name as text that can be printed: a byte that is not UTF-8 becomes \\xff."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    controls = ("Cc", "Zl", "Zp")
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in controls else c for c in text)
