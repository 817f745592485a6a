"""--mode=export: a run's weights or samples, to where others look for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from etils import epath

from ddpm_jax.run import sampling, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint, console, files, signals
from ddpm_jax.runtime import images as image_output
from ddpm_jax.weights import diffusers, formats, importing, source


def check_export(run: Run, target: str | None, format: str, weights: str = "ema") -> None:
    """Raises ValueError for a target that is there, and for a run that the format cannot hold."""
    importing.check_alone()
    if not target:
        raise ValueError("--mode=export needs --target=PATH, where to write")
    if format not in EXPORTS:
        raise ValueError(f"--format {format} cannot be exported; there is {', '.join(EXPORTS)}")
    if weights == "raw" and format != "diffusers":
        raise ValueError(f"--weights=raw goes with --format=diffusers; {format} is of EMA samples")
    path = checkpoint.absolute(epath.Path(target))
    if path.exists() and (format == "npz" or not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"--target {target} is there already; give another")
    files.check_writable(path.parent, "", flag="--target")
    if format != "diffusers":
        files.check_writable(run.directory, "samples")
    else:
        diffusers.check_groups(run.model)
        folder_json(run)


def export(run: Run, target: str, format: str, weights: str) -> None:
    """Writes what 'format' says to 'target'; of 'weights' "ema" or "raw"."""
    EXPORTS[format](run, checkpoint.absolute(epath.Path(target)), weights)
    console.say(f"exported {target}")


def folder_json(run: Run) -> dict[str, dict[str, Any]]:
    """The JSON files of a diffusers folder, by their paths in it."""
    return {
        "model_index.json": {
            "_class_name": "DDPMPipeline",
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        },
        "unet/config.json": diffusers.of_network(run.model),
        "scheduler/scheduler_config.json": diffusers.of_schedule(
            run.model, run.config["diffusion"]
        ),
    }


@contextmanager
def whole(target: epath.Path) -> Iterator[epath.Path]:
    """A hidden folder beside 'target', which takes its name once it is complete."""
    folder = target.with_name(f".{target.name}.tmp")
    if folder.exists():
        folder.rmtree()
    yield folder
    if target.exists():
        target.rmdir()  # it is empty
    folder.rename(target)


def to_diffusers(run: Run, target: epath.Path, weights: str) -> None:
    """A folder that DDPMPipeline.from_pretrained loads."""
    _, params = state.averaged(run) if weights == "ema" else state.raw(run)
    tensors = formats.given("diffusers", jax.device_get(params))
    content = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    with whole(target) as folder:
        files.write(folder / "unet" / source.WEIGHTS[0], content)
        for name, value in folder_json(run).items():
            files.write_json(folder / name, value)


def samples(run: Run) -> np.ndarray:
    """sample.count images of the newest checkpoint, drawn now unless they are there."""
    step, params = state.averaged(run)
    found = sampling.found(run, step, run.sample.count)
    return sampling.images(run, step, params) if found is None else found


def to_png(run: Run, target: epath.Path, weights: str) -> None:
    """One file an image, numbered from 00000: what folders of pictures are compared by."""
    images = samples(run)
    with whole(target) as folder, console.progress("writing", len(images), unit="image") as bar:
        for number, image in enumerate(images):
            signals.check(f"at file {number} of {len(images)}, whose images are kept")
            image_output.write_png(folder / f"{number:05d}.png", image, enlarge=False)
            bar.update()


def to_npz(run: Run, target: epath.Path, weights: str) -> None:
    """arr_0, uint8 [n, h, w, c]: the form of OpenAI's evaluator."""
    image_output.write_npz(target, samples(run))


EXPORTS = {"diffusers": to_diffusers, "png": to_png, "npz": to_npz}
