"""--mode=compress, decompress, inspect: the codec of a run, over files and folders."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from ddpm_jax import build, report, state, stopping, workdir
from ddpm_jax.build import Run
from ddpm_jax.codec import calibrate, calibration, coding, container, model, pictures, places
from ddpm_jax.codec.errors import CodecError, CorruptStream
from ddpm_jax.codec.model import Codec


class Asked(NamedTuple):
    """The flags."""

    input: Sequence[str]
    output: str | None
    max_bytes: int | None
    nu: int
    profile: str
    best_effort: bool = False


def check_compress(run: Run, asked: Asked) -> None:
    """Raises ValueError for files that cannot be compressed, before any is."""
    places.check(asked.input, asked.output)
    if asked.max_bytes is not None and asked.max_bytes < container.LONGEST:
        raise ValueError(
            f"--max_bytes is {asked.max_bytes}; with less than {container.LONGEST} there may be no"
            " room for the header"
        )
    if asked.profile not in model.PROFILES:
        raise ValueError(f"--profile: {workdir.nearest(asked.profile, model.PROFILES)}")
    if not 8 <= asked.nu <= 16:
        raise ValueError(f"--nu is {asked.nu}; it must lie between 8 and 16")
    model.check(run.model)
    calibration.read(calibration.path_of(run.directory, calibrate.newest_step(run)))
    codec = None
    for source, target in to_compress(asked):
        image = pictures.read(source, run.model.shape, run.model.levels)
        if target.exists():
            codec = codec or opened(run, asked.profile)
            data = target.read_bytes()
            if not places.is_file_of(data, image, codec, asked.nu, asked.max_bytes):
                places.refuse(source, target)


def to_compress(asked: Asked) -> list[places.Pair]:
    found = pictures.files(asked.input, pictures.SUFFIXES)
    return places.pairs(found, asked.output, pictures.COMPRESSED)


def to_decompress(asked: Asked) -> list[places.Pair]:
    return places.pairs(pictures.files(asked.input, (pictures.COMPRESSED,)), asked.output, ".png")


def opened(run: Run, profile: str) -> Codec:
    step, params = state.averaged(run)
    calibrated = calibration.read(calibration.path_of(run.directory, step))
    return model.codec(run.model, run.config, params, calibrated, profile)


def compress(run: Run, asked: Asked) -> None:
    """Writes <name>.djx of every picture; raises Stopped if asked to, at a file's end."""
    codec, pairs = opened(run, asked.profile), to_compress(asked)

    def one(source: epath.Path, target: epath.Path) -> None:
        image = pictures.read(source, codec.shape, codec.levels)
        data = coding.compress(image, codec, asked.nu, max_bytes=asked.max_bytes)
        workdir.write(target, data)

    told = over(pairs, "compressing", one)
    size, dims = sum(target.stat().length for _, target in pairs), int(np.prod(codec.shape))
    report.say(
        f"{len(pairs)} files, {size} bytes, {8 * size / len(pairs) / dims:.3f} bits/dim,"
        f" headers in it; {told}"
    )


def over(
    pairs: Sequence[places.Pair], what: str, one: Callable[[epath.Path, epath.Path], None]
) -> str:
    """Does it file by file, but for those that are there, and tells how many are and how long it took."""
    missing, started = places.missing(pairs), time.monotonic()
    there = len(pairs) - len(missing)
    with report.progress(what, len(pairs), initial=there, unit="file") as bar:
        for number, (source, target) in enumerate(missing, there):
            stopping.check(f"with {number} of {len(pairs)} files done")
            try:
                one(source, target)
            except CodecError as error:
                raise type(error)(f"{source}: {error}") from error
            bar.update()
    each = f"{(time.monotonic() - started) / max(len(missing), 1):.2f} s each"
    return f"{there} were there already; {each}" if there else each


def check_decompress(run: Run, asked: Asked) -> None:
    """Raises ValueError for files whose headers already say that they cannot be decoded."""
    places.check(asked.input, asked.output)
    model.check(run.model)
    codecs = by_environment(run)

    def checked(source: epath.Path, targets: Sequence[epath.Path]) -> None:
        data = bytes_of(source, run.model)
        codec = codecs(container.unpack(data)[0].environment)
        coding.opened(data, codec, asked.max_bytes)
        for target in targets:
            if target.exists() and not places.is_picture_of(target, data, codec, asked.max_bytes):
                places.refuse(source, target)

    for source, target in to_decompress(asked):
        named(source, checked, [target, places.damaged(target)][: 1 + asked.best_effort])


def named(path: epath.Path, act: Callable[..., object], *more: Any) -> object:
    """Does something with a file; what is wrong with it is told with its name."""
    try:
        return act(path, *more)
    except CodecError as error:
        raise type(error)(f"{path}: {error}") from error


def bytes_of(path: epath.Path, of: build.Model) -> bytes:
    """A file, unless it is longer than any of this model's can be."""
    longest = container.LONGEST + int(np.prod(of.shape)) * 40 + 1024
    with path.open("rb") as file:
        data = file.read(longest + 1)
    if len(data) > longest:
        container.unpack(data)
        raise CorruptStream(f"it is longer than the {longest} bytes that a file can have")
    return data


def by_environment(run: Run) -> Callable[[bytes], Codec]:
    """The codec of a file's profile, made once."""
    made: dict[str, Codec] = {}

    def of(environment: bytes) -> Codec:
        profile = model.LOCAL if environment else model.PORTABLE
        if profile not in made:
            made[profile] = opened(run, profile)
        return made[profile]

    return of


def decompress(run: Run, asked: Asked) -> None:
    """Writes <name>.png of every file; of a prefix the picture that it holds.

    With best_effort <name>.damaged.png of those that are damaged, and raises CorruptStream at the end.
    """
    codecs, pairs = by_environment(run), to_decompress(asked)
    lossless: list[bool] = []
    damaged: list[str] = []

    def one(source: epath.Path, target: epath.Path) -> None:
        data = bytes_of(source, run.model)
        codec = codecs(container.unpack(data)[0].environment)
        out = coding.decompress(data, codec, asked.max_bytes, asked.best_effort)
        if out.damage:
            target = places.damaged(target)
            damaged.append(str(source))
            report.say(f"{source}: {out.damage}; {target} is what is left of the picture")
        pictures.write(target, out.image, codec.levels)
        lossless.append(out.lossless)

    told = over(pairs, "decompressing", one)
    report.say(f"{len(lossless)} pictures, {sum(lossless)} of them lossless and checked; {told}")
    if damaged:
        some = ", ".join(damaged[:3]) + (", ..." if damaged[3:] else "")
        raise CorruptStream(
            f"of {len(pairs)} files {len(damaged)} are damaged: {some};"
            f" what is left of their pictures has names that end in {places.DAMAGED}"
        )


def inspect(run: Run, asked: Asked) -> None:
    """A line a file: what its header says."""
    for path in pictures.files(asked.input, (pictures.COMPRESSED,)):
        data = bytes_of(path, run.model)
        header, start = container.unpack(data)
        kind = "lossless" if header.lossless else "lossy"
        profile = model.LOCAL if header.environment else model.PORTABLE
        whole = "" if len(data) == start + header.payload else f" of {start + header.payload}"
        report.say(
            f"{path}  {coding.sizes(header.shape)} {kind} {profile}, {len(data)}{whole} bytes"
            f" (header {start}), {8 * len(data) / int(np.prod(header.shape)):.3f} bits/dim,"
            f" {header.steps} steps, nu {header.nu}, trial {header.nonce}, model {header.model.hex()}"
        )


def check_inspect(run: Run, asked: Asked) -> None:
    if not asked.input:
        raise ValueError("say what to look at, --input=FILES or --input=DIR")
    for path in pictures.files(asked.input, (pictures.COMPRESSED,)):
        named(path, lambda path: container.unpack(bytes_of(path, run.model)))
