"""--mode=calibrate, compress, decompress, inspect: the codec of a run, over files and folders."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from ddpm_jax import build, checkpoint, report, state, stopping, workdir
from ddpm_jax.build import Run
from ddpm_jax.codec import calibration, coding, container, measure, model, pictures
from ddpm_jax.codec.errors import CodecError, CorruptStream
from ddpm_jax.codec.model import Codec


class Asked(NamedTuple):
    """The flags."""

    input: Sequence[str]
    output: str | None
    max_bytes: int | None
    nu: int
    profile: str


def check_calibrate(run: Run) -> None:
    """Raises ValueError for a model it cannot be of, and where one is: files need the one they have."""
    model.check(run.model)
    path = calibration.path_of(run.directory, newest_step(run))
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


def newest_step(run: Run) -> int:
    return checkpoint.steps_in(run.checkpoints)[-1]


def check_compress(run: Run, asked: Asked) -> None:
    """Raises ValueError for files that cannot be compressed, before any is."""
    check_output(asked)
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
    calibration.read(calibration.path_of(run.directory, newest_step(run)))
    found = pictures.files(asked.input, pictures.SUFFIXES)
    for path in found:
        pictures.read(path, run.model.shape, run.model.levels)
    outputs(found, asked, pictures.COMPRESSED)


def check_output(asked: Asked) -> None:
    if not asked.input:
        raise ValueError("say what to take in, --input=FILES or --input=DIR")
    if not asked.output:
        raise ValueError("say where to write, --output=DIR")
    workdir.check_writable(checkpoint.absolute(epath.Path(asked.output)), "", flag="--output")


def outputs(found: Sequence[epath.Path], asked: Asked, suffix: str) -> list[epath.Path]:
    """Where each file goes. Raises ValueError if two go to one place, or one is there already."""
    paths = [epath.Path(asked.output) / f"{path.stem}{suffix}" for path in found]
    for path in paths:
        if path.exists():
            raise ValueError(f"--output: {path} is there already; give another folder")
    if len(set(map(str, paths))) < len(paths):
        raise ValueError("--input: two files of one name would go to one place")
    return paths


def opened(run: Run, profile: str) -> Codec:
    step, params = state.averaged(run)
    calibrated = calibration.read(calibration.path_of(run.directory, step))
    return model.codec(run.model, run.config, params, calibrated, profile)


def compress(run: Run, asked: Asked) -> None:
    """Writes <name>.djx of every picture; raises Stopped if asked to, at a file's end."""
    codec = opened(run, asked.profile)
    found = pictures.files(asked.input, pictures.SUFFIXES)
    sizes: list[int] = []

    def one(source: epath.Path, target: epath.Path) -> None:
        image = pictures.read(source, codec.shape, codec.levels)
        data = coding.compress(image, codec, asked.nu, max_bytes=asked.max_bytes)
        workdir.write(target, data)
        sizes.append(target.stat().length)

    seconds = over(found, outputs(found, asked, pictures.COMPRESSED), "compressing", one)
    dims = int(np.prod(codec.shape))
    report.say(
        f"{len(found)} files, {sum(sizes)} bytes, {8 * sum(sizes) / len(found) / dims:.3f} bits/dim,"
        f" headers in it; {seconds / len(found):.2f} s each"
    )


def over(
    found: Sequence[epath.Path],
    targets: Sequence[epath.Path],
    what: str,
    one: Callable[[epath.Path, epath.Path], None],
) -> float:
    """Does it file by file, and tells the seconds."""
    started = time.monotonic()
    with report.progress(what, len(found), unit="file") as bar:
        for number, (source, target) in enumerate(zip(found, targets, strict=True)):
            stopping.check(f"with {number} of {len(found)} files done")
            try:
                one(source, target)
            except CodecError as error:
                raise type(error)(f"{source}: {error}") from error
            bar.update()
    return time.monotonic() - started


def check_decompress(run: Run, asked: Asked) -> None:
    """Raises ValueError for files whose headers already say that they cannot be decoded."""
    check_output(asked)
    model.check(run.model)
    found = pictures.files(asked.input, (pictures.COMPRESSED,))
    outputs(found, asked, ".png")
    codecs = by_environment(run)
    for path in found:
        named(path, lambda data: checked(data, codecs, asked.max_bytes), run.model)


def checked(data: bytes, codecs: Callable[[bytes], Codec], max_bytes: int | None) -> None:
    header, _ = container.unpack(data)
    coding.opened(data, codecs(header.environment), max_bytes)


def named(path: epath.Path, act: Callable[[bytes], object], of: build.Model) -> object:
    """Does something with a file's bytes; what is wrong is told with the file's name."""
    try:
        return act(bytes_of(path, of))
    except CodecError as error:
        raise type(error)(f"{path}: {error}") from error


def bytes_of(path: epath.Path, of: build.Model) -> bytes:
    """A file, unless it is longer than any of this model's can be."""
    longest = container.largest(int(np.prod(of.shape)))
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
    """Writes <name>.png of every file; of a prefix the picture that it holds."""
    codecs = by_environment(run)
    found = pictures.files(asked.input, (pictures.COMPRESSED,))
    lossless: list[bool] = []

    def one(source: epath.Path, target: epath.Path) -> None:
        data = bytes_of(source, run.model)
        codec = codecs(container.unpack(data)[0].environment)
        out = coding.decompress(data, codec, asked.max_bytes)
        pictures.write(target, out.image, codec.levels)
        lossless.append(out.lossless)

    seconds = over(found, outputs(found, asked, ".png"), "decompressing", one)
    report.say(
        f"{len(found)} pictures, {sum(lossless)} of them lossless and checked;"
        f" {seconds / len(found):.2f} s each"
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
        named(path, container.unpack, run.model)
