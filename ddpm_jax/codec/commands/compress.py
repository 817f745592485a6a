"""--mode=compress, decompress and inspect: applies the codec of a run to files and folders."""

import numpy as np
from etils import epath

from ddpm_jax.codec import calibration, file_header, image_file, model
from ddpm_jax.codec.commands import archive, calibrate, inputs, outputs, pictures
from ddpm_jax.codec.commands.inputs import Request
from ddpm_jax.codec.commands.outputs import Job
from ddpm_jax.codec.errors import CorruptStream
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files


def check_compress(run: Run, request: Request) -> None:
    """Raises ValueError for files that cannot be compressed, before compressing any."""
    outputs.check(request)
    if request.max_bytes is not None and request.max_bytes < file_header.MAX_HEADER_SIZE:
        raise ValueError(
            f"--max_bytes is {request.max_bytes}; it must be at least"
            f" {file_header.MAX_HEADER_SIZE}, to leave room for the header"
        )
    if request.profile not in model.PROFILES:
        raise ValueError(f"--profile: {files.suggest(request.profile, model.PROFILES)}")
    if not 8 <= request.nu <= 16:
        raise ValueError(f"--nu is {request.nu}; it must lie between 8 and 16")
    model.check(run.model)
    calibration.read(calibrate.calibration_path(run))
    codec = None
    for source, (target,) in compress_jobs(request):
        image = pictures.read(source, run.model.shape, run.model.levels)
        if target.exists() and not request.archive:
            codec = codec or inputs.open_codec(run, request.profile)
            data = target.read_bytes()
            if not outputs.encodes_image(data, image, codec, request.nu, request.max_bytes):
                outputs.refuse(source, target)
    if request.archive:
        archive.check_write(run, request)


def compress_jobs(request: Request) -> list[Job]:
    sources = pictures.find_files(request.input, pictures.SUFFIXES)
    names = [(path, [path.stem]) for path in sources]
    return outputs.jobs(names, inputs.output_folder(request), pictures.COMPRESSED)


def decompress_jobs(request: Request) -> list[Job]:
    def image_names(path: epath.Path) -> list[str]:
        return archive.image_names(path) if inputs.is_archive(path) else [path.stem]

    names = [(path, inputs.call_on_file(path, image_names)) for path in compressed_files(request)]
    return outputs.jobs(names, inputs.output_folder(request), ".png", request.best_effort)


def compressed_files(request: Request) -> list[epath.Path]:
    return pictures.find_files(request.input, (pictures.COMPRESSED, inputs.ARCHIVE))


def compress(run: Run, request: Request) -> None:
    """Writes <name>.djx for each picture. Raises Stopped, between two files, after a signal."""
    if request.archive:
        return archive.write(run, request)
    codec, jobs = inputs.open_codec(run, request.profile), compress_jobs(request)

    def compress_file(source: epath.Path, targets: list[epath.Path]) -> None:
        image = pictures.read(source, codec.shape, codec.levels)
        data = image_file.compress(image, codec, request.nu, max_bytes=request.max_bytes)
        files.write(targets[0], data)

    summary = outputs.run_over(jobs, "compressing", compress_file)
    size, dims = sum(job.targets[0].stat().length for job in jobs), int(np.prod(codec.shape))
    console.say(
        f"{len(jobs)} files, {size} bytes, {8 * size / len(jobs) / dims:.3f} bits/dim,"
        f" headers included; {summary}"
    )


def check_decompress(run: Run, request: Request) -> None:
    """Raises ValueError for files whose headers show that they cannot be decoded."""
    outputs.check(request)
    model.check(run.model)
    codecs = inputs.codecs_by_environment(run)

    def check_file(source: epath.Path, targets: list[epath.Path]) -> None:
        if inputs.is_archive(source):
            return archive.check_read(source, targets, codecs, request)
        data = inputs.read_file(source, run.model.shape)
        codec = codecs(file_header.unpack(data)[0].environment)
        image_file.read_header(data, codec, request.max_bytes)
        for target in [*targets, outputs.damaged_path(*targets)][: 1 + request.best_effort]:
            if not target.exists():
                continue
            if not outputs.is_decoded_from(target, data, codec, request.max_bytes):
                outputs.refuse(source, target)

    for source, targets in decompress_jobs(request):
        inputs.call_on_file(source, check_file, targets)


def decompress(run: Run, request: Request) -> None:
    """Writes <name>.png for each file, complete or a prefix, and for each image of an archive.

    With best_effort, writes <name>.damaged.png for each damaged file, and raises CorruptStream at the end.
    """
    codecs, jobs = inputs.codecs_by_environment(run), decompress_jobs(request)
    lossless: list[bool] = []
    damaged: list[str] = []

    def decompress_archive(source: epath.Path, targets: list[epath.Path]) -> None:
        try:
            archive.read(source, targets, codecs)
            lossless.extend([True] * len(targets))
        except CorruptStream as error:
            if not request.best_effort:
                raise
            damaged.append(str(source))
            console.say(f"{source}: {error}; the pictures before it are intact")

    def decompress_file(source: epath.Path, targets: list[epath.Path]) -> None:
        if inputs.is_archive(source):
            return decompress_archive(source, targets)
        (target,), data = targets, inputs.read_file(source, run.model.shape)
        codec = codecs(file_header.unpack(data)[0].environment)
        out = image_file.decompress(data, codec, request.max_bytes, request.best_effort)
        if out.damage:
            target = outputs.damaged_path(target)
            damaged.append(str(source))
            console.say(f"{source}: {out.damage}; what could be recovered is in {target}")
        pictures.write(target, out.image, codec.levels)
        lossless.append(out.lossless)

    summary = outputs.run_over(jobs, "decompressing", decompress_file)
    console.say(
        f"{len(lossless)} pictures, {sum(lossless)} of them lossless and verified; {summary}"
    )
    if damaged:
        raise CorruptStream(damage_report(damaged, len(jobs)))


def damage_report(damaged: list[str], count: int) -> str:
    """Names the first few damaged files out of 'count'."""
    first = ", ".join(damaged[:3]) + (", ..." if len(damaged) > 3 else "")
    return (
        f"{len(damaged)} of {count} files are damaged: {first}; what could be recovered of them is in"
        f" files whose names end in {outputs.DAMAGED}, or, of archives, in the pictures before the"
        " damage"
    )


def inspect(run: Run, request: Request) -> None:
    """Prints a line for each file, from its header."""
    for path in compressed_files(request):
        console.say(describe(path, run.model.shape))


def describe(path: epath.Path, shape: tuple[int, int, int]) -> str:
    return archive.describe(path) if inputs.is_archive(path) else describe_file(path, shape)


def describe_file(path: epath.Path, shape: tuple[int, int, int]) -> str:
    data = inputs.read_file(path, shape)
    header, start = file_header.unpack(data)
    kind = "lossless" if header.lossless else "lossy"
    profile = model.LOCAL if header.environment else model.PORTABLE
    declared = start + header.payload
    expected = "" if len(data) == declared else f" of {declared}"
    return (
        f"{path}  {image_file.shape_text(header.shape)} {kind} {profile}, {len(data)}{expected} bytes"
        f" (header {start}), {8 * len(data) / int(np.prod(header.shape)):.3f} bits/dim,"
        f" {header.steps} steps, nu {header.nu}, trial {header.nonce}, model {header.model.hex()}"
    )


def check_inspect(run: Run, request: Request) -> None:
    """Raises ValueError for files that cannot be described."""
    if not request.input:
        raise ValueError("nothing to inspect; give files or folders, --input=FILES or --input=DIR")
    for path in compressed_files(request):
        inputs.call_on_file(path, describe, run.model.shape)
