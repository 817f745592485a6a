"""The rate-distortion curve of real files, beside the bound they are made by and other formats. Table 4.

A file is decoded after every step of its chain; its bits are bytes of the file, header and all. The bound is
of the same images, model, schedule and variances, by exact draws (codec/measure.py).
"""

import io
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ddpm_jax.codec import calibration, chain, image_file, last_layer, measure, model
from ddpm_jax.codec.model import Codec
from ddpm_jax.codec.primitives import poisson
from ddpm_jax.datasets import pixels
from ddpm_jax.figures.trajectories import Chains
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, plotting, signals
from ddpm_jax.runtime.plotting import Figure, Line, Plot

IMAGES = 24  # of the held-out ones, the first
QUALITIES = (5, 10, 20, 35, 50, 65, 80, 90, 95)
Picture = UInt8[np.ndarray, "h w c"]


class Curve(NamedTuple):
    """Of one image: bits up to each time, and the squared error there on 0..255; then the whole file."""

    bits: list[float]
    error: list[float]
    steps: list[float]  # bits of every step
    last: float
    header: float
    total: float


def check(run: Run) -> None:
    """Raises ValueError for a model that the codec cannot drive, or a run that is not calibrated."""
    model.check(run.model)
    steps = sorted(int(each.name) for each in run.checkpoints.iterdir() if each.name.isdigit())
    calibration.read(calibration.file_path(run.directory, steps[-1]))
    run.data.open(run.data.held_out or run.data.split)


def of_file(image: Picture, codec: Codec) -> Curve:
    """Compressed, decompressed, and looked at after every step."""
    written, spent = image_file.compress_with_counts(image, codec)
    read = image_file.decompress(written, codec)
    if not (read.lossless and (read.image == image).all()):
        raise RuntimeError("a file was not decoded to what was written")
    _, sent = image_file.find_nonce(image, codec, image_file.NU)
    seen = [last_layer.nearest_levels(grid, codec.levels) for grid in sent.grids]
    scale = (255.0 / (codec.levels - 1)) ** 2
    errors = [scale * float(((each.astype(float) - image) ** 2).mean()) for each in seen]
    bits = [spent.header + 8.0 * -(-each // 8) for each in (0, *sent.ends)]
    return Curve(bits, errors, spent.steps, spent.last_layer, spent.header, 8.0 * len(written))


def of_bound(run: Run, codec: Codec, image: Picture, seed: int) -> Curve:
    plan, levels = codec.calibration, codec.levels
    found = measure.bound(run.model.sched, plan, codec.predict, image, levels, seed)
    bits = found.prior + np.cumsum([0.0, *found.steps])
    errors = 127.5**2 * found.error
    return Curve(bits.tolist(), errors.tolist(), found.steps.tolist(), found.last, 0.0, found.total)


def other(format: str, picture: Picture, **how: Any) -> tuple[float, float]:
    """Bits and squared error of another format."""
    file = io.BytesIO()
    shown = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    shown.save(file, format, **how)
    back = np.asarray(Image.open(file).convert(shown.mode)).reshape(picture.shape)
    return 8.0 * len(file.getvalue()), float(((back.astype(float) - picture) ** 2).mean())


def others(pictures: UInt8[np.ndarray, "n h w c"]) -> dict[str, Any]:
    """Bits/dim (and RMSE) of PNG, WebP and JPEG on the same images, their headers in it."""
    dims = pictures[0].size

    def mean(format: str, **how: Any) -> tuple[float, float]:
        bits, error = np.mean([other(format, each, **how) for each in pictures], axis=0)
        return float(bits) / dims, float(np.sqrt(error))

    found = {
        "png": mean("PNG", optimize=True)[0],
        "webp_lossless": mean("WEBP", lossless=True, quality=100, method=6)[0],
    }
    for format in ("JPEG", "WEBP"):
        points = [mean(format, quality=quality) for quality in QUALITIES]
        found[format.lower()] = {"quality": QUALITIES, "bits_per_dim": [p[0] for p in points]}
        found[format.lower()]["rmse"] = [p[1] for p in points]
    return found


def summary(curves: list[Curve], dims: int) -> dict[str, Any]:
    """Means over images, in bits/dim and RMSE."""
    totals = np.array([each.total for each in curves]) / dims
    return {
        "rate": (np.mean([each.bits for each in curves], axis=0) / dims).tolist(),
        "rmse": np.sqrt(np.mean([each.error for each in curves], axis=0)).tolist(),
        "step_bits_per_dim": (np.mean([each.steps for each in curves], axis=0) / dims).tolist(),
        "last_layer": float(np.mean([each.last for each in curves])) / dims,
        "header": float(np.mean([each.header for each in curves])) / dims,
        "total": float(totals.mean()),
        "standard_error": float(totals.std(ddof=1) / np.sqrt(len(totals))),
        "totals": totals.tolist(),
    }


def ratios(files: dict[str, Any], bound: dict[str, Any]) -> dict[str, float]:
    each = np.array(files["totals"]) / np.array(bound["totals"])
    return {
        "file_by_bound": files["total"] / bound["total"],
        "beyond_the_header": (files["total"] - files["header"]) / bound["total"],
        "standard_error": float(each.std(ddof=1) / np.sqrt(len(each))),
    }


def compression(trained: Chains) -> Figure:
    run = trained.run
    plan = calibration.read(calibration.file_path(run.directory, trained.step))
    codec = model.codec(run.model, run.config, trained.params, plan)
    source = run.data.open(run.data.held_out or run.data.split)
    images = source.read(np.arange(min(IMAGES, source.count)))
    made: list[list[Curve]] = [[], []]
    with console.progress("compression", len(images), unit="image") as bar:
        for number, image in enumerate(images):
            signals.check(f"with {number} of {len(images)} images compressed")
            made[0].append(of_file(image, codec))
            made[1].append(of_bound(run, codec, image, number))
            bar.update()
    files, bound = (summary(curves, images[0].size) for curves in made)
    beside = others(pixels.stretch(images, run.model.levels))
    facts = {
        "images": len(images),
        "times": list(plan.times),
        "nu": image_file.NU,
        "margin": chain.MARGIN,
        "files": files,
        "bound": bound,
        "ratio": ratios(files, bound),
        "others": beside,
        "poisson_bits_per_bit_of_kl": poisson.bits_per_kl_bit(),
    }
    return Figure({"": plotting.plots(drawn(facts))}, facts)


def drawn(facts: dict[str, Any]) -> list[Plot]:
    """Files beside the bound; beside other formats; and what each step of the chain costs."""
    files, bound, beside = facts["files"], facts["bound"], facts["others"]
    axes = "rate (bits/dim)", "distortion (RMSE, 0–255)"
    poisson_rate = [each * facts["poisson_bits_per_bit_of_kl"] for each in bound["rate"]]
    ours = Line(files["rate"], files["rmse"], "files")
    exact = Line(bound["rate"][1:], bound["rmse"][1:], "the bound")
    chunks = Line(poisson_rate[1:], bound["rmse"][1:], "Poisson, computed")
    jpeg, webp = (
        Line(beside[name]["bits_per_dim"], beside[name]["rmse"], label)
        for name, label in (("jpeg", "JPEG"), ("webp", "WebP"))
    )
    times = facts["times"][:-1]
    spent = [
        Line(times, each["step_bits_per_dim"], label)
        for each, label in ((files, "files"), (bound, "the bound"))
    ]
    return [
        Plot(*axes, [ours, exact, chunks], log=True),
        Plot(*axes, [ours, jpeg, webp], log=True),
        Plot("$t$ at which a step begins", "bits/dim of the step", spent, log=True),
    ]
