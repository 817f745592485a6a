"""Archives as programs meet them: --mode=compress --archive writes one, decompress and inspect take them among files."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from ddpm_jax.codec import archive, archive_header, file_header, image_file, model
from ddpm_jax.codec.commands import inputs, outputs, pictures
from ddpm_jax.codec.commands.inputs import Request
from ddpm_jax.codec.errors import CodecError
from ddpm_jax.codec.model import Codec
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files, signals


def archive_name(asked: Request) -> str:
    """That of the first folder, or file, that goes in."""
    first = epath.Path(asked.input[0])
    name = first.name if first.is_dir() else first.stem
    return "archive" if name.startswith(".") or not name else name


def file_stems(found: Sequence[epath.Path]) -> list[str]:
    return [path.stem for path in found]


def archive_path(asked: Request) -> epath.Path:
    """Where they all go."""
    return epath.Path(asked.output) / f"{archive_name(asked)}{inputs.ARCHIVE}"


def check_write(run: Run, asked: Request) -> None:
    """Raises ValueError for what no archive can be of, and where another one is."""
    if asked.max_bytes is not None:
        raise ValueError("an archive is decoded whole or not at all: --archive or --max_bytes")
    found = pictures.find_files(asked.input, pictures.SUFFIXES)
    archive_header.check_names(file_stems(found))
    target = archive_path(asked)
    if target.exists() and not is_archive_of(run, asked, target, found):
        raise ValueError(
            f"--output: {target} is there already, and is not of these pictures; give another folder"
        )


def is_archive_of(
    run: Run, asked: Request, target: epath.Path, found: Sequence[epath.Path]
) -> bool:
    """By its header and its length: the model, and every picture's name and checksum."""
    codec = inputs.open_codec(run, asked.profile)
    try:
        data = inputs.read_archive(target)
        header, _ = archive.read_header(data, codec)
    except CodecError:
        return False
    images = [pictures.read(path, codec.shape, codec.levels) for path in found]
    listed = [(entry.name, entry.pixels) for entry in header.entries]
    wanted = zip(file_stems(found), map(file_header.checksum, images), strict=True)
    return header.nu == asked.nu and listed == list(wanted)


def write(run: Run, asked: Request) -> None:
    """Writes all pictures to one <folder>.djxa, or, if asked to stop, nothing."""
    target = archive_path(asked)
    if target.exists():
        console.say(f"{target} is there already")
        return
    codec = inputs.open_codec(run, asked.profile)
    found = pictures.find_files(asked.input, pictures.SUFFIXES)
    images = [pictures.read(path, codec.shape, codec.levels) for path in found]
    started = time.monotonic()
    with console.progress("compressing", len(found), unit="picture") as bar:

        def tick() -> None:
            bar.update()
            signals.check("before the archive was whole; nothing is written")

        data = archive.archive(images, codec, file_stems(found), asked.nu, tick)
    files.write(target, data)
    seconds = time.monotonic() - started
    size, header = target.stat().length, archive_header.unpack(data)[0]
    console.say(
        f"{len(found)} pictures in {target}, {size} bytes, all in it:"
        f" {size_text(header, size)}; {seconds / len(found):.2f} s each"
    )


def size_text(header: archive_header.Header, size: int) -> str:
    count = len(header.entries)
    back = sum(entry.alone is None for entry in header.entries)
    dims = count * int(np.prod(header.shape))
    return f"{8 * size / dims:.3f} bits/dim, {back} of {count} with their bits back"


def image_names(path: epath.Path) -> list[str]:
    return archive_header.names(archive_header.unpack(inputs.read_archive(path))[0])


def check_read(
    path: epath.Path, targets: list[epath.Path], codecs: Callable[[bytes], Codec], asked: Request
) -> None:
    """Raises ValueError for an archive whose header already says that it cannot be decoded."""
    if asked.max_bytes is not None:
        raise ValueError(
            f"{path}: an archive is decoded whole or not at all; leave --max_bytes out"
        )
    data = inputs.read_archive(path)
    codec = codecs(archive_header.unpack(data)[0].environment)
    header, _ = archive.read_header(data, codec)
    for entry, target in zip(header.entries, targets, strict=True):
        if target.exists() and not outputs.has_pixels(target, entry.pixels, codec):
            outputs.refuse(path, target)


def read(path: epath.Path, targets: list[epath.Path], codecs: Callable[[bytes], Codec]) -> None:
    """Writes every picture that is not there as soon as it is decoded and checked."""
    data = inputs.read_archive(path)
    codec = codecs(archive_header.unpack(data)[0].environment)
    for number, (member, target) in enumerate(
        zip(archive.members(data, codec), targets, strict=True)
    ):
        if not target.exists():
            pictures.write(target, member.image, codec.levels)
        signals.check(f"with {number + 1} of {len(targets)} pictures of {path} done")


def describe(path: epath.Path) -> str:
    """What its header says."""
    data = inputs.read_archive(path)
    header, start = archive_header.unpack(data)
    profile = model.LOCAL if header.environment else model.PORTABLE
    declared = start + header.payload
    whole = "" if len(data) == declared else f" of {declared}"
    return (
        f"{path}  {len(header.entries)} of {image_file.shape_text(header.shape)} lossless {profile},"
        f" {len(data)}{whole} bytes (header {start}), {size_text(header, len(data))},"
        f" {header.steps} steps, nu {header.nu}, model {header.model.hex()}"
    )
