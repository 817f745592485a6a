"""Input of the codec's programs: the request, the codec of a run, and files of bounded size."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from etils import epath

from ddpm_jax.codec import archive_header, calibration, file_header, image_file, model
from ddpm_jax.codec.errors import CodecError, CorruptStream
from ddpm_jax.codec.model import Codec
from ddpm_jax.run import state
from ddpm_jax.run.run import Run

ARCHIVE = ".djxa"
T = TypeVar("T")


class Request(NamedTuple):
    """The command line's flags for the codec, under their own names."""

    input: Sequence[str]
    output: str | None = None
    max_bytes: int | None = None
    nu: int = image_file.NU
    profile: str = model.PORTABLE
    archive: bool = False
    best_effort: bool = False


def output_folder(request: Request) -> epath.Path:
    """The folder of --output. Raises ValueError if it is not given."""
    if not request.output:
        raise ValueError("nowhere to write; give a folder, --output=DIR")
    return epath.Path(request.output)


def open_codec(run: Run, profile: str) -> Codec:
    """Builds the codec of the checkpoint to read."""
    step, params = state.read_weights(run)
    plan = calibration.read(calibration.file_path(run.directory, step, run.prefix))
    return model.codec(run.model, run.config, params, plan, profile)


def codecs_by_environment(run: Run) -> Callable[[bytes], Codec]:
    """Returns a function from a file's environment to the codec of its profile, which it builds once."""
    codecs: dict[str, Codec] = {}

    def codec(environment: bytes) -> Codec:
        profile = model.LOCAL if environment else model.PORTABLE
        if profile not in codecs:
            codecs[profile] = open_codec(run, profile)
        return codecs[profile]

    return codec


def call_on_file(path: epath.Path, function: Callable[..., T], *args: Any) -> T:
    """Calls function(path, *args), and puts the path in front of the message of a CodecError."""
    try:
        return function(path, *args)
    except CodecError as error:
        raise type(error)(f"{path}: {error}") from error


def is_archive(path: epath.Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == archive_header.MAGIC or path.suffix.lower() == ARCHIVE


def read_file(path: epath.Path, shape: tuple[int, int, int]) -> bytes:
    """Reads a file. Raises CorruptStream if it is longer than any file of an image of this shape."""
    longest = file_header.max_file_size(int(np.prod(shape)))
    with path.open("rb") as file:
        data = file.read(longest + 1)
    if len(data) > longest:
        file_header.unpack(data)
        raise CorruptStream(f"it is longer than {longest} bytes, the most that a file can have")
    return data


def read_archive(path: epath.Path) -> bytes:
    """Reads at most one byte more than an archive's header says, which shows whether it is too long."""
    with path.open("rb") as file:
        start = file.read(archive_header.MAX_HEADER_SIZE)
        size = min(archive_header.read_sizes(start).total + 1, path.stat().length)
        return start + file.read(max(size - len(start), 0))
