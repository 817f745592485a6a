"""Long work in parts, each saved once it is done, so that a killed program resumes at the next part."""

import io
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from etils import epath

from ddpm_jax.distributed import mesh
from ddpm_jax.runtime import console, files, lock, signals

Arrays = dict[str, np.ndarray]


@contextmanager
def parts_folder(path: epath.Path, *fingerprint: Any) -> Iterator[epath.Path]:
    """Locks a hidden folder for the parts of the file 'path', and deletes it when the body succeeds.

    'fingerprint' holds JSON values that identify everything the parts depend on except the file's name.
    Raises InUse if another process is making the same file.
    """
    checksum = zlib.crc32(json.dumps(fingerprint).encode())
    folder = path.with_name(f".{path.name}-{checksum:08x}")
    with lock.hold(folder):
        yield folder
        if mesh.is_first_process():
            folder.rmtree()


def write(path: epath.Path, arrays: Arrays) -> None:
    """Writes a part atomically, as .npz."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    files.write(path, file.getvalue())


def read(path: epath.Path) -> Arrays | None:
    """Returns the arrays of a part, or None if it is missing or damaged."""
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:  # a zip file, which has checksums
            return dict(file)
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        console.say(f"{path} is damaged and will be computed again: {error}")
        return None


def collect(
    directory: epath.Path, count: int, make: Callable[[int], Arrays], tick: Callable[[], object]
) -> list[Arrays]:
    """Returns the parts 0..count - 1, read from 'directory', or made by make(number) and saved there.

    'tick' is called for each part that was read. Raises Stopped after a signal.
    """
    parts = []
    for number in range(count):
        path = directory / f"{number:05d}.npz"
        part = read(path)
        if part is None:
            signals.check_together(f"with {number} of {count} batches done")
            part = make(number)
            write(path, part)
        else:
            tick()
        parts.append(part)
        if not console.is_interactive():
            console.say(f"batch {number + 1} of {count}")
    return parts
