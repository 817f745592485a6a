"""--mode=compress, decompress, inspect: the codec of a run, over files and folders."""

import numpy as np
from etils import epath

from ddpm_jax.codec import calibration, file_header, image_file, model
from ddpm_jax.codec.commands import archive, calibrate, inputs, outputs, pictures
from ddpm_jax.codec.commands.inputs import Request
from ddpm_jax.codec.commands.outputs import Job
from ddpm_jax.codec.errors import CorruptStream
from ddpm_jax.run import model as models
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files


def check_compress(run: Run, asked: Request) -> None:
    """Raises ValueError for files that cannot be compressed, before any is."""
    outputs.check(asked.input, asked.output)
    if asked.max_bytes is not None and asked.max_bytes < file_header.MAX_HEADER_SIZE:
        raise ValueError(
            f"--max_bytes is {asked.max_bytes}; with less than {file_header.MAX_HEADER_SIZE} there may be no"
            " room for the header"
        )
    if asked.profile not in model.PROFILES:
        raise ValueError(f"--profile: {files.nearest(asked.profile, model.PROFILES)}")
    if not 8 <= asked.nu <= 16:
        raise ValueError(f"--nu is {asked.nu}; it must lie between 8 and 16")
    model.check(run.model)
    calibration.read(calibration.file_path(run.directory, calibrate.newest_step(run)))
    codec = None
    for source, (target,) in compress_jobs(asked):
        image = pictures.read(source, run.model.shape, run.model.levels)
        if target.exists() and not asked.archive:
            codec = codec or inputs.open_codec(run, asked.profile)
            data = target.read_bytes()
            if not outputs.encodes_image(data, image, codec, asked.nu, asked.max_bytes):
                outputs.refuse(source, target)
    if asked.archive:
        archive.check_write(run, asked)


def compress_jobs(asked: Request) -> list[Job]:
    found = pictures.find_files(asked.input, pictures.SUFFIXES)
    return outputs.jobs([(path, [path.stem]) for path in found], asked.output, pictures.COMPRESSED)


def decompress_jobs(asked: Request) -> list[Job]:
    def names(path: epath.Path) -> list[str]:
        return archive.image_names(path) if inputs.is_archive(path) else [path.stem]

    found = [(path, inputs.call_on_file(path, names)) for path in compressed_files(asked)]
    return outputs.jobs(found, asked.output, ".png", asked.best_effort)


def compressed_files(asked: Request) -> list[epath.Path]:
    return pictures.find_files(asked.input, (pictures.COMPRESSED, inputs.ARCHIVE))


def compress(run: Run, asked: Request) -> None:
    """Writes <name>.djx of every picture; raises Stopped if asked to, at a file's end."""
    if asked.archive:
        return archive.write(run, asked)
    codec, jobs = inputs.open_codec(run, asked.profile), compress_jobs(asked)

    def one(source: epath.Path, targets: list[epath.Path]) -> None:
        image = pictures.read(source, codec.shape, codec.levels)
        data = image_file.compress(image, codec, asked.nu, max_bytes=asked.max_bytes)
        files.write(targets[0], data)

    told = outputs.run_over(jobs, "compressing", one)
    size, dims = sum(job.targets[0].stat().length for job in jobs), int(np.prod(codec.shape))
    console.say(
        f"{len(jobs)} files, {size} bytes, {8 * size / len(jobs) / dims:.3f} bits/dim,"
        f" headers in it; {told}"
    )


def check_decompress(run: Run, asked: Request) -> None:
    """Raises ValueError for files whose headers already say that they cannot be decoded."""
    outputs.check(asked.input, asked.output)
    model.check(run.model)
    codecs = inputs.codecs_by_environment(run)

    def checked(source: epath.Path, targets: list[epath.Path]) -> None:
        if inputs.is_archive(source):
            return archive.check_read(source, targets, codecs, asked)
        data = inputs.read_file(source, run.model)
        codec = codecs(file_header.unpack(data)[0].environment)
        image_file.read_header(data, codec, asked.max_bytes)
        for target in [*targets, outputs.damaged_path(*targets)][: 1 + asked.best_effort]:
            if target.exists() and not outputs.decodes_to(target, data, codec, asked.max_bytes):
                outputs.refuse(source, target)

    for source, targets in decompress_jobs(asked):
        inputs.call_on_file(source, checked, targets)


def decompress(run: Run, asked: Request) -> None:
    """Writes <name>.png of every file, and of every picture of an archive; of a prefix what it holds.

    With best_effort <name>.damaged.png of those that are damaged, and raises CorruptStream at the end.
    """
    codecs, jobs = inputs.codecs_by_environment(run), decompress_jobs(asked)
    lossless: list[bool] = []
    damaged: list[str] = []

    def one(source: epath.Path, targets: list[epath.Path]) -> None:
        if inputs.is_archive(source):
            try:
                archive.read(source, targets, codecs)
                lossless.extend([True] * len(targets))
            except CorruptStream as error:
                if not asked.best_effort:
                    raise
                damaged.append(str(source))
                console.say(f"{source}: {error}; the pictures before that are whole")
            return
        (target,), data = targets, inputs.read_file(source, run.model)
        codec = codecs(file_header.unpack(data)[0].environment)
        out = image_file.decompress(data, codec, asked.max_bytes, asked.best_effort)
        if out.damage:
            target = outputs.damaged_path(target)
            damaged.append(str(source))
            console.say(f"{source}: {out.damage}; {target} is what is left of the picture")
        pictures.write(target, out.image, codec.levels)
        lossless.append(out.lossless)

    told = outputs.run_over(jobs, "decompressing", one)
    console.say(f"{len(lossless)} pictures, {sum(lossless)} of them lossless and checked; {told}")
    if damaged:
        some = ", ".join(damaged[:3]) + (", ..." if damaged[3:] else "")
        raise CorruptStream(
            f"of {len(jobs)} files {len(damaged)} are damaged: {some};"
            f" what is left of their pictures has names that end in {outputs.DAMAGED}, but for archives"
        )


def inspect(run: Run, asked: Request) -> None:
    """A line a file: what its header says."""
    for path in compressed_files(asked):
        console.say(describe(path, run.model))


def describe(path: epath.Path, of: models.Model) -> str:
    return archive.describe(path) if inputs.is_archive(path) else describe_file(path, of)


def describe_file(path: epath.Path, of: models.Model) -> str:
    data = inputs.read_file(path, of)
    header, start = file_header.unpack(data)
    kind = "lossless" if header.lossless else "lossy"
    profile = model.LOCAL if header.environment else model.PORTABLE
    whole = "" if len(data) == start + header.payload else f" of {start + header.payload}"
    return (
        f"{path}  {image_file.shape_text(header.shape)} {kind} {profile}, {len(data)}{whole} bytes"
        f" (header {start}), {8 * len(data) / int(np.prod(header.shape)):.3f} bits/dim,"
        f" {header.steps} steps, nu {header.nu}, trial {header.nonce}, model {header.model.hex()}"
    )


def check_inspect(run: Run, asked: Request) -> None:
    if not asked.input:
        raise ValueError("say what to look at, --input=FILES or --input=DIR")
    for path in compressed_files(asked):
        inputs.call_on_file(path, describe, run.model)
