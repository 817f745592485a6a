"""What the codec's programs share: the flags, where files come from and go to, and the codec of a run."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from etils import epath

from ddpm_jax import build, checkpoint, report, state, stopping, workdir
from ddpm_jax.build import Run
from ddpm_jax.codec import calibration, container, directory, model
from ddpm_jax.codec.errors import CodecError, CorruptStream
from ddpm_jax.codec.model import Codec

ARCHIVE = ".djxa"
T = TypeVar("T")


class Asked(NamedTuple):
    """The flags."""

    input: Sequence[str]
    output: str | None
    max_bytes: int | None
    nu: int
    profile: str
    archive: bool


def check_output(asked: Asked) -> None:
    if not asked.input:
        raise ValueError("say what to take in, --input=FILES or --input=DIR")
    if not asked.output:
        raise ValueError("say where to write, --output=DIR")
    workdir.check_writable(checkpoint.absolute(epath.Path(asked.output)), "", flag="--output")


def outputs(names: Sequence[str], asked: Asked, suffix: str) -> list[epath.Path]:
    """Where each goes. Raises ValueError if two go to one place, or one is there already."""
    paths = [place(name, asked, suffix) for name in names]
    for path in paths:
        if path.exists():
            raise ValueError(f"--output: {path} is there already; give another folder")
    if len(set(map(str, paths))) < len(paths):
        raise ValueError("--input: two files of one name would go to one place")
    return paths


def place(name: str, asked: Asked, suffix: str) -> epath.Path:
    return epath.Path(asked.output) / f"{name}{suffix}"


def newest_step(run: Run) -> int:
    return checkpoint.steps_in(run.checkpoints)[-1]


def opened(run: Run, profile: str) -> Codec:
    step, params = state.averaged(run)
    calibrated = calibration.read(calibration.path_of(run.directory, step))
    return model.codec(run.model, run.config, params, calibrated, profile)


def by_environment(run: Run) -> Callable[[bytes], Codec]:
    """The codec of a file's profile, made once."""
    made: dict[str, Codec] = {}

    def of(environment: bytes) -> Codec:
        profile = model.LOCAL if environment else model.PORTABLE
        if profile not in made:
            made[profile] = opened(run, profile)
        return made[profile]

    return of


def over(found: Sequence[epath.Path], what: str, one: Callable[[epath.Path], None]) -> float:
    """Does it file by file, and tells the seconds."""
    started = time.monotonic()
    with report.progress(what, len(found), unit="file") as bar:
        for number, source in enumerate(found):
            stopping.check(f"with {number} of {len(found)} files done")
            named(source, one)
            bar.update()
    return time.monotonic() - started


def named(path: epath.Path, act: Callable[[epath.Path], T]) -> T:
    """Does something with a file; what is wrong is told with its name."""
    try:
        return act(path)
    except CodecError as error:
        raise type(error)(f"{path}: {error}") from error


def is_archive(path: epath.Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == directory.MAGIC or path.suffix.lower() == ARCHIVE


def bytes_of(path: epath.Path, of: build.Model) -> bytes:
    """A file, unless it is longer than any of this model's can be."""
    longest = container.largest(int(np.prod(of.shape)))
    with path.open("rb") as file:
        data = file.read(longest + 1)
    if len(data) > longest:
        container.unpack(data)
        raise CorruptStream(f"it is longer than the {longest} bytes that a file can have")
    return data


def archive_of(path: epath.Path) -> bytes:
    """An archive, of which no more is read than its header says, and a byte, to see that there is more."""
    with path.open("rb") as file:
        start = file.read(directory.LONGEST)
        more = min(directory.sizes(start).total + 1, path.stat().length) - len(start)
        return start + file.read(max(more, 0))
