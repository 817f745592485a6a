"""Maps each file to its output, and recognizes existing output, so that a command can be resumed."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from etils import epath
from jaxtyping import UInt8
from numpy import ndarray

from ddpm_jax.codec import file_header, image_file
from ddpm_jax.codec.commands import inputs, pictures
from ddpm_jax.codec.commands.inputs import Request
from ddpm_jax.codec.errors import CodecError
from ddpm_jax.codec.model import Codec
from ddpm_jax.runtime import console, files, paths, signals

DAMAGED = ".damaged.png"  # ends the name of a picture recovered from a damaged file


class Job(NamedTuple):
    """A file and the paths of its output: one, or one for each image of an archive."""

    source: epath.Path
    targets: list[epath.Path]


def check(request: Request) -> None:
    """Raises ValueError if --input or --output is missing, or the output folder is not writable."""
    if not request.input:
        raise ValueError("nothing to read; give files or folders, --input=FILES or --input=DIR")
    folder = inputs.output_folder(request)
    files.check_writable(paths.absolute(folder), "", flag="--output")


def jobs(
    sources: Sequence[tuple[epath.Path, Sequence[str]]],
    folder: epath.Path,
    suffix: str,
    best_effort: bool = False,
) -> list[Job]:
    """Builds the jobs of files and the names of their outputs. Raises ValueError if two outputs share a path."""
    result = [Job(path, [folder / f"{name}{suffix}" for name in names]) for path, names in sources]
    targets = [target for job in result for target in job.targets]
    paths = [*targets, *(map(damaged_path, targets) if best_effort else ())]
    if len(set(map(str, paths))) < len(paths):
        raise ValueError(
            "--input: the outputs of two files would have one path; rename one of them, or give"
            " another --output for it"
        )
    return result


def damaged_path(target: epath.Path) -> epath.Path:
    return target.with_name(f"{target.stem}{DAMAGED}")


def missing(jobs: Sequence[Job]) -> list[Job]:
    """Returns the jobs whose output is incomplete; existing files have been checked."""
    return [job for job in jobs if not all(target.exists() for target in job.targets)]


def run_over(
    jobs: Sequence[Job], label: str, function: Callable[[epath.Path, list[epath.Path]], None]
) -> str:
    """Calls function(source, targets) for each job that is not complete. Returns a summary for the user."""
    todo, started = missing(jobs), time.monotonic()
    existing = len(jobs) - len(todo)
    with console.progress(label, len(jobs), initial=existing, unit="file") as bar:
        for number, job in enumerate(todo, existing):
            signals.check(f"with {number} of {len(jobs)} files done")
            inputs.call_on_file(job.source, function, job.targets)
            bar.update()
    each = f"{(time.monotonic() - started) / max(len(todo), 1):.2f} s each"
    return f"{existing} already existed; {each}" if existing else each


def refuse(source: epath.Path, target: epath.Path) -> None:
    raise ValueError(
        f"--output: {target} already exists, and is not the output for {source}; give another folder"
    )


def encodes_image(
    data: bytes, image: UInt8[ndarray, "h w c"], codec: Codec, nu: int, max_bytes: int | None
) -> bool:
    """Whether a file encodes this image, judged by its header and its length."""
    try:
        header, start = file_header.unpack(data)
    except CodecError:
        return False
    actual = header.model, header.environment, header.shape, header.nu, header.pixels
    size = start + header.payload
    return (
        actual == (codec.model, codec.environment, image.shape, nu, file_header.checksum(image))
        and header.lossless
        and len(data) == min(size, max_bytes or size)
    )


def has_pixels(target: epath.Path, pixels: int, codec: Codec) -> bool:
    """Whether it is a picture with this checksum."""
    try:
        image = pictures.read(target, codec.shape, codec.levels)
    except ValueError:
        return False
    return file_header.checksum(image) == pixels


def is_decoded_from(target: epath.Path, data: bytes, codec: Codec, max_bytes: int | None) -> bool:
    """Whether it is the picture that a file decodes to, by checksum where possible, else by decoding it."""
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
