"""--mode=export: writes a run's weights or samples in formats that other programs read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from etils import epath

from ddpm_jax.run import record, sampling, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files, paths, signals
from ddpm_jax.runtime import images as image_output
from ddpm_jax.weights import diffusers, formats, importing, tensor_files


def check_export(run: Run, target: str | None, format: str) -> None:
    """Raises ValueError if the target exists, or if the format cannot express the run."""
    importing.check_one_process()
    if not target:
        raise ValueError("--mode=export needs --target=PATH, the place to write to")
    if format not in EXPORTS:
        raise ValueError(f"--format={format} cannot be exported; use one of {', '.join(EXPORTS)}")
    path = paths.absolute(epath.Path(target))
    if path.exists() and (format == "npz" or not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"--target {target} already exists; choose another")
    files.check_writable(path.parent, "", flag="--target")
    if format != "diffusers":
        files.check_writable(run.directory, "samples")
    else:
        for field, name in record.user_names(run.config):
            if field in ("model.name", "diffusion.variance"):
                raise ValueError(
                    f"{field} is {name}, which diffusers does not have; it cannot be exported"
                )
        diffusers.check_groups(run.model)
        folder_json(run)


def export(run: Run, target: str, format: str) -> None:
    """Writes 'target' in a format of EXPORTS."""
    EXPORTS[format](run, paths.absolute(epath.Path(target)))
    console.say(f"exported {target}")


def folder_json(run: Run) -> dict[str, dict[str, Any]]:
    """Returns the JSON files of a diffusers folder, by their paths in it."""
    scheduler = diffusers.scheduler_config(run.model, run.config["diffusion"])
    return {
        "model_index.json": {
            "_class_name": "DDPMPipeline",
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        },
        "unet/config.json": diffusers.network_config(run.model),
        "scheduler/scheduler_config.json": scheduler,
    }


@contextmanager
def new_folder(target: epath.Path) -> Iterator[epath.Path]:
    """Yields a hidden folder beside 'target', which is renamed to 'target' after the body."""
    folder = target.with_name(f".{target.name}.tmp")
    if folder.exists():
        folder.rmtree()
    yield folder
    if target.exists():
        target.rmdir()  # check_export has verified that it is empty
    folder.rename(target)


def to_diffusers(run: Run, target: epath.Path) -> None:
    """Writes a folder that DDPMPipeline.from_pretrained loads."""
    _, params = state.read_weights(run)
    tensors = formats.to_tensors("diffusers", jax.device_get(params))
    content = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    with new_folder(target) as folder:
        files.write(folder / "unet" / tensor_files.WEIGHTS[0], content)
        for name, value in folder_json(run).items():
            files.write_json(folder / name, value)


def samples(run: Run) -> np.ndarray:
    """Returns sample.count images from the newest checkpoint, drawn unless a file has them already."""
    step, params = state.read_weights(run)
    drawn = sampling.find_samples(run, step, run.sample.count)
    return sampling.write_samples(run, step, params) if drawn is None else drawn


def to_png(run: Run, target: epath.Path) -> None:
    """Writes a folder with one file per image, numbered from 00000, as FID programs read it."""
    images = samples(run)
    with (
        new_folder(target) as folder,
        console.progress("writing", len(images), unit="image") as bar,
    ):
        for number, image in enumerate(images):
            signals.check(f"at file {number} of {len(images)}; the samples are kept")
            image_output.write_png(folder / f"{number:05d}.png", image, enlarge=False)
            bar.update()


def to_npz(run: Run, target: epath.Path) -> None:
    """Writes arr_0, uint8 [n, h, w, c], as OpenAI's evaluator reads it."""
    image_output.write_npz(target, samples(run))


EXPORTS = {"diffusers": to_diffusers, "png": to_png, "npz": to_npz}
