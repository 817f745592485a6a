"""What the codec's programs share: the flags, what files hold, and the codec of a run."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from etils import epath

from ddpm_jax.codec import archive_header, calibration, file_header, model
from ddpm_jax.codec.errors import CodecError, CorruptStream
from ddpm_jax.codec.model import Codec
from ddpm_jax.run import model as models
from ddpm_jax.run import state
from ddpm_jax.run.run import Run

ARCHIVE = ".djxa"
T = TypeVar("T")


class Request(NamedTuple):
    """The flags."""

    input: Sequence[str]
    output: str | None
    max_bytes: int | None
    nu: int
    profile: str
    archive: bool = False
    best_effort: bool = False


def open_codec(run: Run, profile: str) -> Codec:
    step, params = state.averaged(run)
    calibrated = calibration.read(calibration.file_path(run.directory, step))
    return model.codec(run.model, run.config, params, calibrated, profile)


def codecs_by_environment(run: Run) -> Callable[[bytes], Codec]:
    """The codec of a file's profile, made once."""
    made: dict[str, Codec] = {}

    def of(environment: bytes) -> Codec:
        profile = model.LOCAL if environment else model.PORTABLE
        if profile not in made:
            made[profile] = open_codec(run, profile)
        return made[profile]

    return of


def call_on_file(path: epath.Path, act: Callable[..., T], *more: Any) -> T:
    """Does something with a file; what is wrong with it is told with its name."""
    try:
        return act(path, *more)
    except CodecError as error:
        raise type(error)(f"{path}: {error}") from error


def is_archive(path: epath.Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == archive_header.MAGIC or path.suffix.lower() == ARCHIVE


def read_file(path: epath.Path, of: models.Model) -> bytes:
    """A file, unless it is longer than any of this model's can be."""
    longest = file_header.max_file_size(int(np.prod(of.shape)))
    with path.open("rb") as file:
        data = file.read(longest + 1)
    if len(data) > longest:
        file_header.unpack(data)
        raise CorruptStream(f"it is longer than the {longest} bytes that a file can have")
    return data


def read_archive(path: epath.Path) -> bytes:
    """An archive, of which no more is read than its header says, and a byte, to see that there is more."""
    with path.open("rb") as file:
        start = file.read(archive_header.LONGEST)
        more = min(archive_header.read_sizes(start).total + 1, path.stat().length) - len(start)
        return start + file.read(max(more, 0))
