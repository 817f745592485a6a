"""A hash of the names and contents of files, and how many contents are the same."""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, cast

from etils import epath

from ddpm_jax.datasets.listing import escape
from ddpm_jax.runtime import files, signals


class Content(NamedTuple):
    """What the files of a data set hold."""

    hash: str  # of names and contents
    identical: int  # files that repeat the content of an earlier one
    pair: Sequence[str]  # the names of two such files

    def describe(self, count: int) -> list[str]:
        """Returns a line about identical files, if there are any among the 'count' files."""
        if not self.identical:
            return []
        return [
            f"{self.identical} of {count} pictures repeat another one, as {' and '.join(self.pair)} do;"
            " one may be in the training split and the other held out"
        ]


def read(root: epath.Path, names: list[str], cache: epath.Path) -> Content:
    """Hashes names and contents; reads files only if a name, size or modification time has changed."""
    listing = hashlib.sha256(os.fsencode(root.resolve()))
    for name in names:
        listing.update(os.fsencode(name) + f"\0{size_and_time(root / name)}\0".encode())
    cached = cache / f"{listing.hexdigest()[:32]}.json"
    if cached.exists():
        record = json.loads(cached.read_text())
        return Content(record["content"], record.get("identical", 0), record.get("pair", ()))
    content, first, identical, pair, unreadable = hashlib.sha256(), {}, 0, (), False
    for name in names:
        signals.check("while reading pictures")
        content.update(os.fsencode(name) + b"\0")
        try:
            with (root / name).open("rb") as file:
                digest = hashlib.file_digest(cast(io.BufferedIOBase, file), "sha256").digest()
        except OSError:  # reported when it is decoded
            unreadable = True
            continue
        content.update(digest)
        other = first.setdefault(digest, name)
        if other != name:
            identical, pair = identical + 1, pair or (escape(other), escape(name))
    result = Content(content.hexdigest(), identical, pair)
    if not unreadable:  # size and time do not tell that it has become readable
        record = {
            "folder": str(root),
            "content": result.hash,
            "identical": identical,
            "pair": pair,
        }
        with suppress(PermissionError):  # a data set prepared earlier may be on a read-only disk
            files.write_json(cached, record)
    return result


def size_and_time(path: epath.Path) -> tuple[int, int]:
    """Size and modification time, in nanoseconds if possible: a file may change twice in a second."""
    if "://" in str(path):
        return path.stat().length, path.stat().mtime
    try:
        status = os.stat(path)
    except OSError:  # reported when it is decoded
        return -1, -1
    return status.st_size, status.st_mtime_ns
