"""Long work in parts, each kept when it is done: a killed program resumes at the part it was at."""

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
def parts_folder(path: epath.Path, *decides: Any) -> Iterator[epath.Path]:
    """A hidden folder, ours alone, for the parts of a file to be; it goes when the file is made.

    'decides' is what the parts depend on beside the file's name: values that JSON knows. Raises
    InUse if another process is making the same file.
    """
    mark = zlib.crc32(json.dumps(decides).encode())
    folder = path.with_name(f".{path.name}-{mark:08x}")
    with lock.hold(folder):
        yield folder
        if mesh.is_first_process():
            folder.rmtree()


def write(path: epath.Path, arrays: Arrays) -> None:
    file = io.BytesIO()
    np.savez(file, **arrays)
    files.write(path, file.getvalue())


def read(path: epath.Path) -> Arrays | None:
    """The arrays of a part, or None if it is not there or not as it was written."""
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:  # a zip file: it has checksums
            return dict(file)
    except Exception as error:  # zipfile, zlib and numpy each raise their own for a damaged one
        console.say(f"{path} is damaged and made again: {error}")
        return None


def collect(
    directory: epath.Path, count: int, make: Callable[[int], Arrays], tick: Callable[[], object]
) -> list[Arrays]:
    """The parts 0..count - 1, those that are not there yet by make(number); raises Stopped if asked to.

    'tick' is called for a part that was there.
    """
    found = []
    for number in range(count):
        path = directory / f"{number:05d}.npz"
        part = read(path)
        if part is None:
            signals.check_together(f"with {number} of {count} batches done")
            part = make(number)
            write(path, part)
        else:
            tick()
        found.append(part)
        if not console.is_interactive():
            console.say(f"batch {number + 1} of {count}")
    return found
