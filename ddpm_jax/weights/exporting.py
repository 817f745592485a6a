"""--mode=export: writes a run's weights or samples in formats that other programs read, or uploads the weights."""

import tempfile
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
from ddpm_jax.weights import diffusers, formats, hub, importing, model_card, tensor_files


def check_export(run: Run, target: str | None, format: str) -> None:
    """Raises ValueError if the target holds something else, or if the format cannot express the run.

    Raises hub.Unreachable if the target is on the hub, which does not answer.
    """
    importing.check_one_process()
    if not target:
        raise ValueError("--mode=export needs --target=PATH, the place to write to")
    if format not in EXPORTS:
        raise ValueError(f"--format={format} cannot be exported; use one of {', '.join(EXPORTS)}")
    on_hub = paths.is_on_hub(target)
    if not on_hub:
        check_path(target, format)
    elif format != "diffusers":
        raise ValueError(f"--target {target}: only --format=diffusers is uploaded, not {format}")
    if format != "diffusers":
        files.check_writable(run.directory, "samples")
    else:
        check_diffusers(run)
    if on_hub:  # at the end, as it asks the hub
        hub.check_target(hub.parse(target))


def check_path(target: str, format: str) -> None:
    """Raises ValueError if a target exists, or cannot be written."""
    path = paths.absolute(epath.Path(target))
    if path.exists() and (format == "npz" or not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"--target {target} already exists; choose another")
    files.check_writable(path.parent, "", flag="--target")


def check_diffusers(run: Run) -> None:
    """Raises ValueError if diffusers has no network or scheduler that is the run's."""
    for field, name in record.user_names(run.config):
        if field in ("model.name", "diffusion.variance"):
            raise ValueError(
                f"{field} is {name}, which diffusers does not have; it cannot be exported"
            )
    diffusers.check_groups(run.model)
    folder_json(run)


def export(run: Run, target: str, format: str) -> None:
    """Writes 'target' in a format of EXPORTS, or uploads it."""
    if paths.is_on_hub(target):
        to_hub(run, hub.parse(target))
        return
    EXPORTS[format](run, paths.absolute(epath.Path(target)))
    console.say(f"exported {target}")


def to_hub(run: Run, repository: hub.Repository) -> None:
    """Uploads what to_diffusers writes, a model card, and the step's newest grid of samples if there is one."""
    content = hub.read_content(repository)
    with tempfile.TemporaryDirectory() as place:
        folder = epath.Path(place) / "model"
        step, parameters = to_diffusers(run, folder)
        grid = model_card.find_grid(run, step)
        if grid is not None:
            files.write(folder / model_card.GRID, grid.read_bytes())
        card = model_card.write(run, step, parameters, repository.id, grid, content)
        files.write(folder / hub.CARD, card)
        message = f"Upload step {step} of {run.directory.name}"
        address = hub.upload(repository, folder, message, [model_card.GRID], content)
    console.say(f"exported {address}")
    if content is None:
        console.say(
            "  the repository is new and private; its page has the settings that publish it"
        )
    if content is None or not content.licence:
        console.say(f"  its card, {hub.CARD}, states no licence; choose one there")


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


def to_diffusers(run: Run, target: epath.Path) -> tuple[int, int]:
    """Writes a folder that DDPMPipeline.from_pretrained loads; returns its step and number of parameters."""
    step, params = state.read_weights(run)
    tensors = formats.to_tensors("diffusers", jax.device_get(params))
    content = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    with new_folder(target) as folder:
        files.write(folder / "unet" / tensor_files.WEIGHTS[0], content)
        for name, value in folder_json(run).items():
            files.write_json(folder / name, value)
    return step, sum(tensor.size for tensor in tensors.values())


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
