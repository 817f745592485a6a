"""Archives on the command line: compress --archive writes one, decompress and inspect accept them."""

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


def archive_name(request: Request) -> str:
    """Names the archive after the first folder or file of the input."""
    first = epath.Path(request.input[0])
    name = first.name if first.is_dir() else first.stem
    return "archive" if name.startswith(".") or not name else name


def file_stems(paths: Sequence[epath.Path]) -> list[str]:
    return [path.stem for path in paths]


def archive_path(request: Request) -> epath.Path:
    return inputs.output_folder(request) / f"{archive_name(request)}{inputs.ARCHIVE}"


def check_write(run: Run, request: Request) -> None:
    """Raises ValueError for pictures that no archive can hold, or if another archive has that path."""
    if request.max_bytes is not None:
        raise ValueError(
            "a part of an archive cannot be decoded; give either --archive or --max_bytes"
        )
    sources = pictures.find_files(request.input, pictures.SUFFIXES)
    archive_header.check_names(file_stems(sources))
    target = archive_path(request)
    if target.exists() and not is_archive_of(run, request, target, sources):
        raise ValueError(
            f"--output: {target} already exists, and is not an archive of these pictures; give"
            " another folder"
        )


def is_archive_of(
    run: Run, request: Request, target: epath.Path, sources: Sequence[epath.Path]
) -> bool:
    """Whether 'target' holds these pictures, judged by its length and its header (model, names, checksums)."""
    codec = inputs.open_codec(run, request.profile)
    try:
        data = inputs.read_archive(target)
        header, _ = archive.read_header(data, codec)
    except CodecError:
        return False
    images = [pictures.read(path, codec.shape, codec.levels) for path in sources]
    actual = [(entry.name, entry.pixels) for entry in header.entries]
    expected = zip(file_stems(sources), map(file_header.checksum, images), strict=True)
    return header.nu == request.nu and actual == list(expected)


def write(run: Run, request: Request) -> None:
    """Writes all pictures to one <folder>.djxa, or nothing if it is stopped."""
    target = archive_path(request)
    if target.exists():
        console.say(f"{target} already exists")
        return
    codec = inputs.open_codec(run, request.profile)
    sources = pictures.find_files(request.input, pictures.SUFFIXES)
    images = [pictures.read(path, codec.shape, codec.levels) for path in sources]
    started = time.monotonic()
    with console.progress("compressing", len(sources), unit="picture") as bar:

        def tick() -> None:
            bar.update()
            signals.check("before the archive was complete; nothing was written")

        data = archive.archive(images, codec, file_stems(sources), request.nu, tick)
    files.write(target, data)
    seconds = time.monotonic() - started
    size, header = target.stat().length, archive_header.unpack(data)[0]
    console.say(
        f"{len(sources)} pictures in {target}, {size} bytes, header included:"
        f" {size_text(header, size)}; {seconds / len(sources):.2f} s each"
    )


def size_text(header: archive_header.Header, size: int) -> str:
    count = len(header.entries)
    by_bits_back = sum(entry.standalone is None for entry in header.entries)
    dims = count * int(np.prod(header.shape))
    return f"{8 * size / dims:.3f} bits/dim, {by_bits_back} of {count} by bits back"


def image_names(path: epath.Path) -> list[str]:
    return archive_header.names(archive_header.unpack(inputs.read_archive(path))[0])


def check_read(
    path: epath.Path,
    targets: list[epath.Path],
    codecs: Callable[[bytes], Codec],
    request: Request,
) -> None:
    """Raises ValueError for an archive whose header shows that it cannot be decoded."""
    if request.max_bytes is not None:
        raise ValueError(f"{path}: a part of an archive cannot be decoded; omit --max_bytes")
    data = inputs.read_archive(path)
    codec = codecs(archive_header.unpack(data)[0].environment)
    header, _ = archive.read_header(data, codec)
    for entry, target in zip(header.entries, targets, strict=True):
        if target.exists() and not outputs.has_pixels(target, entry.pixels, codec):
            outputs.refuse(path, target)


def read(path: epath.Path, targets: list[epath.Path], codecs: Callable[[bytes], Codec]) -> None:
    """Writes each missing picture as soon as it has been decoded and verified."""
    data = inputs.read_archive(path)
    codec = codecs(archive_header.unpack(data)[0].environment)
    members = zip(archive.members(data, codec), targets, strict=True)
    for number, (member, target) in enumerate(members):
        if not target.exists():
            pictures.write(target, member.image, codec.levels)
        signals.check(f"with {number + 1} of {len(targets)} pictures of {path} done")


def describe(path: epath.Path) -> str:
    """Describes an archive in a line, from its header."""
    data = inputs.read_archive(path)
    header, start = archive_header.unpack(data)
    profile = model.LOCAL if header.environment else model.PORTABLE
    declared = start + header.payload
    expected = "" if len(data) == declared else f" of {declared}"
    return (
        f"{path}  {len(header.entries)} of {image_file.shape_text(header.shape)} lossless {profile},"
        f" {len(data)}{expected} bytes (header {start}), {size_text(header, len(data))},"
        f" {header.steps} steps, nu {header.nu}, model {header.model.hex()}"
    )
