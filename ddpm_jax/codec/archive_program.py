"""Archives as programs meet them: --mode=compress --archive writes one, decompress and inspect take them among files."""

import time
from collections.abc import Callable

import numpy as np
from etils import epath

from ddpm_jax import report, stopping, workdir
from ddpm_jax.build import Run
from ddpm_jax.codec import archives, coding, directory, files, model, pictures
from ddpm_jax.codec.files import Asked
from ddpm_jax.codec.model import Codec


def title(asked: Asked) -> str:
    """That of the first folder, or file, that goes in."""
    first = epath.Path(asked.input[0])
    name = first.name if first.is_dir() else first.stem
    return "archive" if name.startswith(".") or not name else name


def check_write(asked: Asked) -> None:
    """Raises ValueError for what no archive can be of, or written to."""
    if asked.max_bytes is not None:
        raise ValueError("an archive is decoded whole or not at all: --archive or --max_bytes")
    names = [path.stem for path in pictures.files(asked.input, pictures.SUFFIXES)]
    directory.check_names(names)
    files.outputs([title(asked)], asked, files.ARCHIVE)


def write(run: Run, asked: Asked) -> None:
    """Writes all pictures to one <folder>.djxa, or, if asked to stop, nothing."""
    codec = files.opened(run, asked.profile)
    found = pictures.files(asked.input, pictures.SUFFIXES)
    images = [pictures.read(path, codec.shape, codec.levels) for path in found]
    names, started = [path.stem for path in found], time.monotonic()
    with report.progress("compressing", len(found), unit="picture") as bar:

        def tick() -> None:
            bar.update()
            stopping.check("before the archive was whole; nothing is written")

        data = archives.archive(images, codec, names, asked.nu, tick)
    target = files.place(title(asked), asked, files.ARCHIVE)
    workdir.write(target, data)
    seconds = time.monotonic() - started
    size, header = target.stat().length, directory.unpack(data)[0]
    report.say(
        f"{len(found)} pictures in {target}, {size} bytes, all in it:"
        f" {of_each(header, size)}; {seconds / len(found):.2f} s each"
    )


def of_each(header: directory.Header, size: int) -> str:
    count = len(header.entries)
    back = sum(entry.alone is None for entry in header.entries)
    dims = count * int(np.prod(header.shape))
    return f"{8 * size / dims:.3f} bits/dim, {back} of {count} with their bits back"


def check_read(path: epath.Path, codecs: Callable[[bytes], Codec], asked: Asked) -> list[str]:
    """The names in it. Raises ValueError for an archive whose header already says that it cannot be decoded."""
    if asked.max_bytes is not None:
        raise ValueError(
            f"{path}: an archive is decoded whole or not at all; leave --max_bytes out"
        )
    data = files.archive_of(path)
    header, _ = directory.unpack(data)
    archives.opened(data, codecs(header.environment))
    return directory.names(header)


def read(path: epath.Path, codecs: Callable[[bytes], Codec], asked: Asked) -> int:
    """Writes every picture as soon as it is decoded and checked, and tells how many."""
    data = files.archive_of(path)
    header, _ = directory.unpack(data)
    codec = codecs(header.environment)
    for number, member in enumerate(archives.members(data, codec)):
        pictures.write(files.place(member.name, asked, ".png"), member.image, codec.levels)
        stopping.check(f"with {number + 1} of {len(header.entries)} pictures of {path} done")
    return len(header.entries)


def told(path: epath.Path) -> str:
    """What its header says."""
    data = files.archive_of(path)
    header, start = directory.unpack(data)
    profile = model.LOCAL if header.environment else model.PORTABLE
    declared = start + header.payload
    whole = "" if len(data) == declared else f" of {declared}"
    return (
        f"{path}  {len(header.entries)} of {coding.sizes(header.shape)} lossless {profile},"
        f" {len(data)}{whole} bytes (header {start}), {of_each(header, len(data))},"
        f" {header.steps} steps, nu {header.nu}, model {header.model.hex()}"
    )
