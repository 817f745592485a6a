"""The rate-distortion curve of compressed files, against the bound and other image formats. Table 4.

The distortion of a file is measured after every step of its chain; its rate counts whole bytes, with the
header. The bound is for the same images, model, schedule and variances, with exact draws (codec/measure.py).
"""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ddpm_jax.codec import calibration, chain, image_file, last_layer, measure, model
from ddpm_jax.codec.commands import calibrate
from ddpm_jax.codec.model import Codec
from ddpm_jax.codec.primitives import poisson
from ddpm_jax.datasets import pixels
from ddpm_jax.figures import latents
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, plotting, signals
from ddpm_jax.runtime.plotting import Figure, Line, Plot

IMAGES = 24  # the first of the held-out split
QUALITIES = (5, 10, 20, 35, 50, 65, 80, 90, 95)
Picture = UInt8[np.ndarray, "h w c"]


class Curve(NamedTuple):
    """One image: bits sent and squared error (on 0..255) at each time, and the bits of the parts."""

    bits: Sequence[float]
    error: Sequence[float]
    steps: Sequence[float]
    last: float
    header: float
    total: float


def check(run: Run) -> None:
    """Raises ValueError for a model that the codec does not support, or without a calibration."""
    model.check(run.model)
    calibration.read(calibrate.calibration_path(run))
    latents.check(run)


def measure_file(image: Picture, codec: Codec) -> Curve:
    """Compresses and decompresses an image, and measures it after every step."""
    data, counts = image_file.compress_with_counts(image, codec)
    decoded = image_file.decompress(data, codec)
    if not (decoded.lossless and (decoded.image == image).all()):
        raise RuntimeError("the decompressed image differs from the compressed one")
    _, sent = image_file.find_nonce(image, codec, image_file.NU)
    estimates = [last_layer.nearest_levels(grid, codec.levels) for grid in sent.grids]
    scale = (255.0 / (codec.levels - 1)) ** 2
    return Curve(
        bits=[counts.header + 8.0 * -(-end // 8) for end in (0, *sent.ends)],
        error=[scale * float(((each.astype(float) - image) ** 2).mean()) for each in estimates],
        steps=counts.steps,
        last=counts.last_layer,
        header=counts.header,
        total=8.0 * len(data),
    )


def measure_bound(run: Run, codec: Codec, image: Picture, seed: int) -> Curve:
    terms = measure.bound(
        run.model.sched, codec.calibration, codec.predict, image, codec.levels, seed
    )
    return Curve(
        bits=(terms.prior + np.cumsum([0.0, *terms.steps])).tolist(),
        error=(127.5**2 * terms.error).tolist(),
        steps=terms.steps.tolist(),
        last=terms.last,
        header=0.0,
        total=terms.total,
    )


def measure_format(format: str, picture: Picture, **options: Any) -> tuple[float, float]:
    """Bits and squared error of a picture saved in another format."""
    file = io.BytesIO()
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    image.save(file, format, **options)
    decoded = np.asarray(Image.open(file).convert(image.mode)).reshape(picture.shape)
    return 8.0 * len(file.getvalue()), float(((decoded.astype(float) - picture) ** 2).mean())


def measure_formats(pictures: UInt8[np.ndarray, "n h w c"]) -> dict[str, Any]:
    """Bits/dim of PNG, WebP and JPEG for the same images, headers included, and RMSE if lossy."""
    dims = pictures[0].size

    def mean(format: str, **options: Any) -> tuple[float, float]:
        bits, error = np.mean(
            [measure_format(format, each, **options) for each in pictures], axis=0
        )
        return float(bits) / dims, float(np.sqrt(error))

    results: dict[str, Any] = {
        "png": mean("PNG", optimize=True)[0],
        "webp_lossless": mean("WEBP", lossless=True, quality=100, method=6)[0],
    }
    for format in ("JPEG", "WEBP"):
        points = [mean(format, quality=quality) for quality in QUALITIES]
        results[format.lower()] = {
            "quality": QUALITIES,
            "bits_per_dim": [bits for bits, _ in points],
            "rmse": [rmse for _, rmse in points],
        }
    return results


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
    """File size over bound, with and without headers; the standard error is over images."""
    by_image = np.array(files["totals"]) / np.array(bound["totals"])
    return {
        "file_by_bound": files["total"] / bound["total"],
        "beyond_the_header": (files["total"] - files["header"]) / bound["total"],
        "standard_error": float(by_image.std(ddof=1) / np.sqrt(len(by_image))),
    }


def compression(trained: TrainedRun) -> Figure:
    """Rate and distortion of files, of the bound and of other formats, and the bits of each step."""
    run = trained.run
    plan = calibration.read(calibration.file_path(run.directory, trained.step, run.prefix))
    codec = model.codec(run.model, run.config, trained.params, plan)
    source = run.data.open(latents.source_split(run))
    images = source.read(np.arange(min(IMAGES, source.count)))
    file_curves, bound_curves = [], []
    with console.progress("compression", len(images), unit="image") as bar:
        for number, image in enumerate(images):
            signals.check(f"with {number} of {len(images)} images compressed")
            file_curves.append(measure_file(image, codec))
            bound_curves.append(measure_bound(run, codec, image, number))
            bar.update()
    files, bound = (summary(curves, images[0].size) for curves in (file_curves, bound_curves))
    facts = {
        "images": len(images),
        "times": list(plan.times),
        "nu": image_file.NU,
        "margin": chain.MARGIN,
        "files": files,
        "bound": bound,
        "ratio": ratios(files, bound),
        "others": measure_formats(pixels.stretch(images, run.model.levels)),
        "poisson_bits_per_bit_of_kl": poisson.bits_per_kl_bit(),
    }
    return Figure({"": plotting.plots(panels(facts))}, facts)


def panels(facts: dict[str, Any]) -> list[Plot]:
    """Files against the bound; against other formats; and the bits of each step of the chain."""
    files, bound, others = facts["files"], facts["bound"], facts["others"]
    axes = "rate (bits/dim)", "distortion (RMSE, 0–255)"
    poisson_rate = [rate * facts["poisson_bits_per_bit_of_kl"] for rate in bound["rate"]]
    file_line = Line(files["rate"], files["rmse"], "files")
    bound_line = Line(bound["rate"][1:], bound["rmse"][1:], "the bound")
    poisson_line = Line(poisson_rate[1:], bound["rmse"][1:], "Poisson, computed")
    jpeg, webp = (
        Line(others[name]["bits_per_dim"], others[name]["rmse"], label)
        for name, label in (("jpeg", "JPEG"), ("webp", "WebP"))
    )
    times = facts["times"][:-1]
    step_lines = [
        Line(times, each["step_bits_per_dim"], label)
        for each, label in ((files, "files"), (bound, "the bound"))
    ]
    return [
        Plot(*axes, [file_line, bound_line, poisson_line], log=True),
        Plot(*axes, [file_line, jpeg, webp], log=True),
        Plot("$t$ at which a step begins", "bits/dim of the step", step_lines, log=True),
    ]
