"""--mode=calibrate, compress, decompress, inspect: the codec of a run, over files and folders."""

import time
from collections.abc import Sequence

import numpy as np
from etils import epath

from ddpm_jax import build, report, state, workdir
from ddpm_jax.build import Run
from ddpm_jax.codec import (
    archive_program,
    calibration,
    coding,
    container,
    files,
    measure,
    model,
    pictures,
)
from ddpm_jax.codec.files import Asked


def check_calibrate(run: Run) -> None:
    """Raises ValueError for a model it cannot be of, and where one is: files need the one they have."""
    model.check(run.model)
    path = calibration.path_of(run.directory, files.newest_step(run))
    if path.exists():
        raise ValueError(
            f"{path} is there already, and files that were compressed with it need it;"
            " move it away to make another"
        )
    run.data.open(run.data.split)


def calibrate(run: Run) -> None:
    """Writes codec/<step>-codec.json, beside the checkpoint whose error it is."""
    step, params = state.averaged(run)
    source = run.data.open(run.data.split)
    count = min(measure.IMAGES, source.count)
    images = source.read(np.arange(count) * (source.count // count))
    times = calibration.grid(run.model.sched)
    started = time.monotonic()
    with report.progress("calibrating", len(times), unit="time") as bar:
        errors = measure.errors(run.model, params, images, times, bar.update)
    curve = calibration.error_curve(run.model.sched, times, errors)
    found = calibration.of_errors(run.model.sched, curve, int(np.prod(run.model.shape)))
    facts = {
        "split": run.data.split,
        "images": count,
        "seed": measure.SEED,
        "times": times.tolist(),
        "errors": errors.tolist(),
        "seconds": round(time.monotonic() - started, 1),
    }
    path = calibration.path_of(run.directory, step)
    calibration.write(path, found, facts)
    bits = int(found.budget.sum()) / int(np.prod(run.model.shape))
    report.say(f"{len(found.times) - 1} steps of {run.model.sched.T}: {listed(found.times)}")
    report.say(f"paths of {bits:.3f} bits/dim in the mean, then the last layer")
    report.say(f"calibration {path}; files that were written with another are not read with it")


def listed(times: Sequence[int]) -> str:
    return " ".join(map(str, times))


def check_compress(run: Run, asked: Asked) -> None:
    """Raises ValueError for files that cannot be compressed, before any is."""
    files.check_output(asked)
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
    calibration.read(calibration.path_of(run.directory, files.newest_step(run)))
    found = pictures.files(asked.input, pictures.SUFFIXES)
    for path in found:
        pictures.read(path, run.model.shape, run.model.levels)
    if asked.archive:
        return archive_program.check_write(asked)
    files.outputs([path.stem for path in found], asked, pictures.COMPRESSED)


def compress(run: Run, asked: Asked) -> None:
    """Writes <name>.djx of every picture; raises Stopped if asked to, at a file's end."""
    if asked.archive:
        return archive_program.write(run, asked)
    codec = files.opened(run, asked.profile)
    found = pictures.files(asked.input, pictures.SUFFIXES)
    sizes: list[int] = []

    def one(source: epath.Path) -> None:
        image = pictures.read(source, codec.shape, codec.levels)
        data = coding.compress(image, codec, asked.nu, max_bytes=asked.max_bytes)
        target = files.place(source.stem, asked, pictures.COMPRESSED)
        workdir.write(target, data)
        sizes.append(target.stat().length)

    seconds = files.over(found, "compressing", one)
    dims = int(np.prod(codec.shape))
    report.say(
        f"{len(found)} files, {sum(sizes)} bytes, {8 * sum(sizes) / len(found) / dims:.3f} bits/dim,"
        f" headers in it; {seconds / len(found):.2f} s each"
    )


def check_decompress(run: Run, asked: Asked) -> None:
    """Raises ValueError for files whose headers already say that they cannot be decoded."""
    files.check_output(asked)
    model.check(run.model)
    codecs = files.by_environment(run)

    def names(path: epath.Path) -> list[str]:
        if files.is_archive(path):
            return archive_program.check_read(path, codecs, asked)
        data = files.bytes_of(path, run.model)
        header, _ = container.unpack(data)
        coding.opened(data, codecs(header.environment), asked.max_bytes)
        return [path.stem]

    found = [files.named(path, names) for path in compressed(asked)]
    files.outputs([name for each in found for name in each], asked, ".png")


def compressed(asked: Asked) -> list[epath.Path]:
    return pictures.files(asked.input, (pictures.COMPRESSED, files.ARCHIVE))


def decompress(run: Run, asked: Asked) -> None:
    """Writes <name>.png of every file, and of every picture of an archive; of a prefix the picture that it holds."""
    codecs = files.by_environment(run)
    lossless: list[bool] = []

    def one(source: epath.Path) -> None:
        if files.is_archive(source):
            lossless.extend([True] * archive_program.read(source, codecs, asked))
            return
        data = files.bytes_of(source, run.model)
        codec = codecs(container.unpack(data)[0].environment)
        out = coding.decompress(data, codec, asked.max_bytes)
        pictures.write(files.place(source.stem, asked, ".png"), out.image, codec.levels)
        lossless.append(out.lossless)

    seconds = files.over(compressed(asked), "decompressing", one)
    report.say(
        f"{len(lossless)} pictures, {sum(lossless)} of them lossless and checked;"
        f" {seconds / len(lossless):.2f} s each"
    )


def inspect(run: Run, asked: Asked) -> None:
    """A line a file: what its header says."""
    for path in compressed(asked):
        report.say(line(path, run.model))


def line(path: epath.Path, of: build.Model) -> str:
    return archive_program.told(path) if files.is_archive(path) else told(path, of)


def told(path: epath.Path, of: build.Model) -> str:
    data = files.bytes_of(path, of)
    header, start = container.unpack(data)
    kind = "lossless" if header.lossless else "lossy"
    profile = model.LOCAL if header.environment else model.PORTABLE
    whole = "" if len(data) == start + header.payload else f" of {start + header.payload}"
    return (
        f"{path}  {coding.sizes(header.shape)} {kind} {profile}, {len(data)}{whole} bytes"
        f" (header {start}), {8 * len(data) / int(np.prod(header.shape)):.3f} bits/dim,"
        f" {header.steps} steps, nu {header.nu}, trial {header.nonce}, model {header.model.hex()}"
    )


def check_inspect(run: Run, asked: Asked) -> None:
    if not asked.input:
        raise ValueError("say what to look at, --input=FILES or --input=DIR")
    for path in compressed(asked):
        files.named(path, lambda each: line(each, run.model))
