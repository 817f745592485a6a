"""Where what comes of each file goes, and whether what is there already came of it: the same command goes on."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from etils import epath
from jaxtyping import UInt8
from numpy import ndarray

from ddpm_jax.codec import file_header, image_file
from ddpm_jax.codec.commands import inputs, pictures
from ddpm_jax.codec.errors import CodecError
from ddpm_jax.codec.model import Codec
from ddpm_jax.runtime import checkpoint, console, files, signals

DAMAGED = ".damaged.png"  # what --best_effort makes of a damaged file: no name of a whole picture


class Job(NamedTuple):
    """A file, and where what comes of it goes: one place, but for an archive's pictures."""

    source: epath.Path
    targets: list[epath.Path]


def check(input: Sequence[str], output: str | None) -> None:
    """Raises ValueError if one of them is not given, or nothing can be written there."""
    if not input:
        raise ValueError("say what to take in, --input=FILES or --input=DIR")
    if not output:
        raise ValueError("say where to write, --output=DIR")
    files.check_writable(checkpoint.absolute(epath.Path(output)), "", flag="--output")


def jobs(
    found: Sequence[tuple[epath.Path, Sequence[str]]],
    output: str,
    suffix: str,
    best_effort: bool = False,
) -> list[Job]:
    """Of every file and the names of what comes of it. Raises ValueError if two may go to one place."""
    folder = epath.Path(output)
    made = [Job(path, [folder / f"{name}{suffix}" for name in names]) for path, names in found]
    targets = [target for job in made for target in job.targets]
    places = [*targets, *(map(damaged_path, targets) if best_effort else ())]
    if len(set(map(str, places))) < len(places):
        raise ValueError("--input: two files of one name would go to one place")
    return made


def damaged_path(target: epath.Path) -> epath.Path:
    return target.with_name(f"{target.stem}{DAMAGED}")


def missing(of: Sequence[Job]) -> list[Job]:
    """Those that are still to be made: what is there has been checked."""
    return [job for job in of if not all(target.exists() for target in job.targets)]


def run_over(
    jobs: Sequence[Job], what: str, one: Callable[[epath.Path, list[epath.Path]], None]
) -> str:
    """Does it file by file, but for those that are there, and tells how many are and how long it took."""
    todo, started = missing(jobs), time.monotonic()
    there = len(jobs) - len(todo)
    with console.progress(what, len(jobs), initial=there, unit="file") as bar:
        for number, job in enumerate(todo, there):
            signals.check(f"with {number} of {len(jobs)} files done")
            inputs.call_on_file(job.source, one, job.targets)
            bar.update()
    each = f"{(time.monotonic() - started) / max(len(todo), 1):.2f} s each"
    return f"{there} were there already; {each}" if there else each


def refuse(source: epath.Path, target: epath.Path) -> None:
    raise ValueError(
        f"--output: {target} is there already, and is not what {source} becomes; give another folder"
    )


def encodes_image(
    data: bytes, image: UInt8[ndarray, "h w c"], codec: Codec, nu: int, max_bytes: int | None
) -> bool:
    """Whether it is the file of this image, by its header and its length."""
    try:
        header, start = file_header.unpack(data)
    except CodecError:
        return False
    found = header.model, header.environment, header.shape, header.nu, header.pixels
    whole = start + header.payload
    return (
        found == (codec.model, codec.environment, image.shape, nu, file_header.checksum(image))
        and header.lossless
        and len(data) == min(whole, max_bytes or whole)
    )


def has_pixels(target: epath.Path, pixels: int, codec: Codec) -> bool:
    """Whether it is a picture with this checksum."""
    try:
        image = pictures.read(target, codec.shape, codec.levels)
    except ValueError:
        return False
    return file_header.checksum(image) == pixels


def decodes_to(target: epath.Path, data: bytes, codec: Codec, max_bytes: int | None) -> bool:
    """Whether it is the picture in a file: by the checksum of its pixels, else by decoding the file."""
    header, start = file_header.unpack(data)
    whole = header.lossless and start + header.payload <= (max_bytes or len(data))
    is_damaged = target.name.endswith(DAMAGED)
    if whole and not is_damaged:
        return has_pixels(target, header.pixels, codec)
    try:
        image = pictures.read(target, codec.shape, codec.levels)
    except ValueError:
        return False
    out = image_file.decompress(data, codec, max_bytes, best_effort=True)
    return bool(out.damage) == is_damaged and bool((out.image == image).all())
