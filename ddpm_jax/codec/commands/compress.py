"""--mode=compress, decompress, inspect: the codec of a run, over files and folders."""

import numpy as np
from etils import epath

from ddpm_jax.codec import calibration, file_header, image_file, model
from ddpm_jax.codec.commands import archive, calibrate, inputs, outputs, pictures
from ddpm_jax.codec.commands.inputs import Asked
from ddpm_jax.codec.commands.outputs import Job
from ddpm_jax.codec.errors import CorruptStream
from ddpm_jax.run import model as models
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files


def check_compress(run: Run, asked: Asked) -> None:
    """Raises ValueError for files that cannot be compressed, before any is."""
    outputs.check(asked.input, asked.output)
    if asked.max_bytes is not None and asked.max_bytes < file_header.LONGEST:
        raise ValueError(
            f"--max_bytes is {asked.max_bytes}; with less than {file_header.LONGEST} there may be no"
            " room for the header"
        )
    if asked.profile not in model.PROFILES:
        raise ValueError(f"--profile: {files.nearest(asked.profile, model.PROFILES)}")
    if not 8 <= asked.nu <= 16:
        raise ValueError(f"--nu is {asked.nu}; it must lie between 8 and 16")
    model.check(run.model)
    calibration.read(calibration.path_of(run.directory, calibrate.newest_step(run)))
    codec = None
    for source, (target,) in to_compress(asked):
        image = pictures.read(source, run.model.shape, run.model.levels)
        if target.exists() and not asked.archive:
            codec = codec or inputs.opened(run, asked.profile)
            data = target.read_bytes()
            if not outputs.is_file_of(data, image, codec, asked.nu, asked.max_bytes):
                outputs.refuse(source, target)
    if asked.archive:
        archive.check_write(run, asked)


def to_compress(asked: Asked) -> list[Job]:
    found = pictures.files(asked.input, pictures.SUFFIXES)
    return outputs.jobs([(path, [path.stem]) for path in found], asked.output, pictures.COMPRESSED)


def to_decompress(asked: Asked) -> list[Job]:
    def names(path: epath.Path) -> list[str]:
        return archive.names(path) if inputs.is_archive(path) else [path.stem]

    found = [(path, inputs.named(path, names)) for path in compressed(asked)]
    return outputs.jobs(found, asked.output, ".png", asked.best_effort)


def compressed(asked: Asked) -> list[epath.Path]:
    return pictures.files(asked.input, (pictures.COMPRESSED, inputs.ARCHIVE))


def compress(run: Run, asked: Asked) -> None:
    """Writes <name>.djx of every picture; raises Stopped if asked to, at a file's end."""
    if asked.archive:
        return archive.write(run, asked)
    codec, jobs = inputs.opened(run, asked.profile), to_compress(asked)

    def one(source: epath.Path, targets: list[epath.Path]) -> None:
        image = pictures.read(source, codec.shape, codec.levels)
        data = image_file.compress(image, codec, asked.nu, max_bytes=asked.max_bytes)
        files.write(targets[0], data)

    told = outputs.over(jobs, "compressing", one)
    size, dims = sum(job.targets[0].stat().length for job in jobs), int(np.prod(codec.shape))
    console.say(
        f"{len(jobs)} files, {size} bytes, {8 * size / len(jobs) / dims:.3f} bits/dim,"
        f" headers in it; {told}"
    )


def check_decompress(run: Run, asked: Asked) -> None:
    """Raises ValueError for files whose headers already say that they cannot be decoded."""
    outputs.check(asked.input, asked.output)
    model.check(run.model)
    codecs = inputs.by_environment(run)

    def checked(source: epath.Path, targets: list[epath.Path]) -> None:
        if inputs.is_archive(source):
            return archive.check_read(source, targets, codecs, asked)
        data = inputs.bytes_of(source, run.model)
        codec = codecs(file_header.unpack(data)[0].environment)
        image_file.opened(data, codec, asked.max_bytes)
        for target in [*targets, outputs.damaged(*targets)][: 1 + asked.best_effort]:
            if target.exists() and not outputs.is_picture_of(target, data, codec, asked.max_bytes):
                outputs.refuse(source, target)

    for source, targets in to_decompress(asked):
        inputs.named(source, checked, targets)


def decompress(run: Run, asked: Asked) -> None:
    """Writes <name>.png of every file, and of every picture of an archive; of a prefix what it holds.

    With best_effort <name>.damaged.png of those that are damaged, and raises CorruptStream at the end.
    """
    codecs, jobs = inputs.by_environment(run), to_decompress(asked)
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
        (target,), data = targets, inputs.bytes_of(source, run.model)
        codec = codecs(file_header.unpack(data)[0].environment)
        out = image_file.decompress(data, codec, asked.max_bytes, asked.best_effort)
        if out.damage:
            target = outputs.damaged(target)
            damaged.append(str(source))
            console.say(f"{source}: {out.damage}; {target} is what is left of the picture")
        pictures.write(target, out.image, codec.levels)
        lossless.append(out.lossless)

    told = outputs.over(jobs, "decompressing", one)
    console.say(f"{len(lossless)} pictures, {sum(lossless)} of them lossless and checked; {told}")
    if damaged:
        some = ", ".join(damaged[:3]) + (", ..." if damaged[3:] else "")
        raise CorruptStream(
            f"of {len(jobs)} files {len(damaged)} are damaged: {some};"
            f" what is left of their pictures has names that end in {outputs.DAMAGED}, but for archives"
        )


def inspect(run: Run, asked: Asked) -> None:
    """A line a file: what its header says."""
    for path in compressed(asked):
        console.say(line(path, run.model))


def line(path: epath.Path, of: models.Model) -> str:
    return archive.told(path) if inputs.is_archive(path) else told(path, of)


def told(path: epath.Path, of: models.Model) -> str:
    data = inputs.bytes_of(path, of)
    header, start = file_header.unpack(data)
    kind = "lossless" if header.lossless else "lossy"
    profile = model.LOCAL if header.environment else model.PORTABLE
    whole = "" if len(data) == start + header.payload else f" of {start + header.payload}"
    return (
        f"{path}  {image_file.sizes(header.shape)} {kind} {profile}, {len(data)}{whole} bytes"
        f" (header {start}), {8 * len(data) / int(np.prod(header.shape)):.3f} bits/dim,"
        f" {header.steps} steps, nu {header.nu}, trial {header.nonce}, model {header.model.hex()}"
    )


def check_inspect(run: Run, asked: Asked) -> None:
    if not asked.input:
        raise ValueError("say what to look at, --input=FILES or --input=DIR")
    for path in compressed(asked):
        inputs.named(path, line, run.model)
