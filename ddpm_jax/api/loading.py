"""load(): opens a run, or foreign weights, as a Trained."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

import jax
from etils import epath

from ddpm_jax.api.trained import Trained
from ddpm_jax.cli import exit, process_state
from ddpm_jax.config import build, stored_config
from ddpm_jax.distributed import mesh
from ddpm_jax.run import record, state
from ddpm_jax.runtime import checkpoint, console, paths
from ddpm_jax.weights import imported_config, importing, source

WEIGHTS = ("ema", "raw")
DIFFUSERS = '"_class_name"'  # in every config.json of diffusers


def load(
    path: str | PathLike, step: int | str | None = None, weights: str = "ema", trust: bool = False
) -> Trained:
    """Opens a run's folder, or foreign weights such as a diffusers folder; no data set is needed.

    'path' may also be hf:OWNER/NAME or hf:OWNER/NAME@REVISION, a diffusers model on Hugging Face's hub.
    'step' is that of a checkpoint, or "best", the one that --follow chose; None is the newest intact one.
    'weights' is "ema", or "raw" for the parameters without averaging. 'trust' allows the user code that
    the run's config names, where it is not known to be the code that the run was trained with.

    Raises ValueError if 'path' holds neither, or has no such checkpoint, checkpoint.Damaged for a damaged
    one, and hub.Unreachable if the hub does not answer. It warns if the newest checkpoint is damaged, and
    takes the one before.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}; it must be {' or '.join(WEIGHTS)}")
    folder = paths.user_path(str(path))
    lines: list[str] = []
    with quiet_libraries(), console.quiet(lines.append):
        if not paths.is_on_hub(path) and is_run(folder):
            trained = open_run(folder, step, weights, trust)
        elif step is not None:
            raise ValueError(
                f"{folder} holds foreign weights, which have no step; omit step={step!r}"
            )
        else:
            trained = open_weights(folder, weights)
    for line in lines:
        warnings.warn(line.replace("--weights=raw", 'weights="raw"'), stacklevel=2)
    return trained


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps the libraries' logs and warnings from the user in the body, and restores them after it."""
    with process_state.preserve():
        exit.quiet_libraries()
        yield


def is_run(folder: epath.Path) -> bool:
    """Returns whether a folder is a run's, and not foreign weights."""
    path = folder / "config.json"
    return path.exists() and DIFFUSERS not in path.read_text()


def open_run(folder: epath.Path, step: int | str | None, weights: str, trust: bool) -> Trained:
    """Opens a run. Raises ValueError if it has no such checkpoint."""
    stored = record.read(folder)
    if stored is None:
        raise ValueError(f"{folder} holds no run")
    config: Any = stored_config.get_config(str(folder))  # sections have no static types
    config.parallel.devices = count_devices(config)
    run = build.run(config, folder, image_kind=build.stored_image_kind(stored), trust=trust)
    run = run._replace(name=folder.name, weights=weights)
    if step is None and not checkpoint.exists(run.checkpoints):
        raise ValueError(f"{folder} has no checkpoint yet; train it first")
    run = state.choose_step(run, step)
    state.say_young.cache_clear()  # an earlier call may have said it
    found, params = state.read_weights(run)
    return Trained(run=run, step=found, params=params)


def count_devices(config: Any) -> int:
    """Returns how many of this machine's devices can share the batches of a run from another machine."""
    sizes = [config[name].batch_size for name in ("train", "sample", "eval")]
    most = config.parallel.devices or jax.device_count()
    return max(
        n
        for n in range(1, jax.device_count() + 1)
        if n <= most and not any(size % n for size in sizes)
    )


def open_weights(folder: epath.Path, weights: str) -> Trained:
    """Opens foreign weights. Raises ValueError for anything but the weights of a DDPM, and hub.Unreachable."""
    on_hub = paths.is_on_hub(folder)
    if not on_hub and not folder.exists() and not list(folder.parent.glob(f"{folder.name}.*")):
        raise ValueError(f"{folder} does not exist")
    if folder.parent.name == "checkpoints":
        raise ValueError(
            f"{folder} is a checkpoint; load its run, {folder.parent.parent}, with step={folder.name}"
        )
    try:
        origin = source.open_source(folder)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        what = "cannot be opened" if on_hub else "holds no run, and no weights of a DDPM"
        raise ValueError(f"{folder} {what}: {error}") from error
    config = imported_config.build_config(origin, base="")
    # In a folder that does not exist, as the weights have no config.json of ours.
    run = importing.build_run(config, folder / "run", origin)
    run = run._replace(name=imported_config.folder_name(str(folder)), weights=weights)
    like = state.abstract(run).params
    importing.check_weights(origin, like)
    sets = importing.read_weights(origin, like)
    params = sets.params if weights == "raw" or sets.ema is None else sets.ema
    placed = jax.device_put(params, mesh.replicated_sharding(run.mesh))
    return Trained(run=run, step=importing.find_step(origin), params=placed)
