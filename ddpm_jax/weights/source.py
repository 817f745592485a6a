"""A foreign checkpoint: its format, its tensors, and the config fields that follow from them."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from etils import epath

from ddpm_jax.runtime import foreign, paths
from ddpm_jax.runtime.foreign import Tensors
from ddpm_jax.weights import diffusers, formats, hub, tensor_files
from ddpm_jax.weights.formats import Architecture

# Every released network has attention at this height, from which the images' height follows.
ATTENTION_HEIGHT = 16
RELEASE_SCHEDULE = {"name": "linear", "T": 1000, "beta_1": 1e-4, "beta_T": 0.02}
Section = dict[str, Any]
SCHEDULER = "scheduler_config.json"
NETWORKS = (
    "unet/config.json",
    "config.json",
)  # of diffusers, in a pipeline's folder and in a network's own
DESCRIPTIONS = (
    "model_index.json",
    *NETWORKS,
    f"scheduler/{SCHEDULER}",
    f"unet/{SCHEDULER}",
    SCHEDULER,
)


class Source(NamedTuple):
    """A foreign checkpoint."""

    path: epath.Path
    format: str  # one of formats.FORMATS
    tensors: Tensors
    step: int | None  # from the name of the file
    shape: tuple[int, int, int]  # height, width, channels of its images
    sections: dict[str, Section]  # the fields of our config that follow from it
    notes: tuple[str, ...]  # for the user: assumptions, and settings that are not imported


@lru_cache(maxsize=1)  # read for the config, for the check and for the import
def read(path: str, format: str) -> Source:
    """Reads the checkpoint at 'path'; 'format' is its expected format or "auto".

    Raises ValueError, with what it is instead, for anything but the weights of a DDPM, and hub.Unreachable.
    """
    location = epath.Path(path)
    if paths.is_on_hub(path):
        check_hub_format(path, format)
    elif not location.exists() and foreign.tensorflow_prefix(location) is None:
        raise ValueError(f"--source {path} does not exist")
    try:
        source = open_source(location)
    except (ValueError, TypeError, KeyError, OverflowError) as error:  # or JSON of other types
        raise ValueError(f"--source {path} cannot be imported: {error}") from error
    if format not in ("auto", source.format):
        raise ValueError(f"--source {path} has format {source.format}, not --format={format}")
    return source


def open_source(path: epath.Path) -> Source:
    """Reads a TensorFlow checkpoint, a diffusers folder or repository, or a file of tensors."""
    if paths.is_on_hub(path):
        return from_hub(hub.parse(str(path)))
    prefix = foreign.tensorflow_prefix(path)
    if prefix is not None:
        tensors = foreign.read_tensorflow(prefix, tensor_files.GET_AGAIN)
        return from_release(prefix, tensors, foreign.parse_step(prefix.name))
    if path.is_dir():
        return from_folder(path)
    if re.search(tensor_files.SHARD, path.name):
        raise ValueError(f"it is one shard of several; name the folder, --source={path.parent}")
    tensors = tensor_files.read_tensors(path)
    if formats.detect(tensors) == "diffusers":
        return from_folder(path.parent, path)
    return from_release(path, tensors, foreign.parse_step(path.name))


def check_hub_format(path: str, format: str) -> None:
    """Raises ValueError for another format than diffusers', before anything is downloaded."""
    if format not in ("auto", "diffusers"):
        raise ValueError(
            f"--source {path}: only diffusers' models are read from the hub, not {format}"
        )


def from_hub(repository: hub.Repository) -> Source:
    """Downloads a diffusers model and reads it. Its descriptions come first: other models are not downloaded."""
    folder = hub.fetch(repository, DESCRIPTIONS)
    if not any((folder / name).exists() for name in NETWORKS):
        raise ValueError(f"it has neither {' nor '.join(NETWORKS)}, so it is no model of diffusers")
    inner, _ = read_network(folder)
    commit = repository._replace(revision=folder.name)  # all files of one commit
    within = "" if inner == folder else f"{inner.name}/"
    for patterns in tensor_files.DOWNLOADS:
        hub.fetch(commit, [within + pattern for pattern in patterns])
        if tensor_files.holds_weights(inner):
            break
    source = from_folder(folder)
    return source._replace(
        path=epath.Path(f"{paths.HUB}{repository.id}"),
        notes=(*source.notes, f"its files are kept in {folder}"),
    )


def from_release(path: epath.Path, tensors: Tensors, step: int | None) -> Source:
    """Returns the authors' checkpoint or pesser's; its diffusion section is assumed to be the release's."""
    format = formats.detect(tensors)
    architecture = formats.infer_architecture(format, tensors)
    if not architecture.attention:
        raise ValueError(
            f"no level has attention, so its images' size is unknown; {formats.SUPPORTED}"
        )
    size = ATTENTION_HEIGHT * 2 ** architecture.attention[0]
    learned = learns_variance(architecture)
    variance = "learned" if learned else "fixed_small" if size >= 256 else "fixed_large"
    loss = "vlb" if learned else "simple"
    diffusion = {"schedule": RELEASE_SCHEDULE, "output": "eps", "variance": variance, "loss": loss}
    shape = size, size, architecture.channels_in
    assumed = ", ".join(f"{name} {diffusion[name]}" for name in ("output", "variance", "loss"))
    return Source(
        path=path,
        format=format,
        tensors=tensors,
        step=step,
        shape=shape,
        sections=config_sections(architecture, shape, diffusion),
        notes=(f"assumed, unless --config=FILE says otherwise: {assumed}, linear schedule",),
    )


def learns_variance(architecture: Architecture) -> bool:
    """Returns whether the network also outputs a variance. Raises ValueError for other output channels."""
    channels_in, channels_out = architecture.channels_in, architecture.channels_out
    if channels_out not in (channels_in, 2 * channels_in):
        raise ValueError(
            f"its network has {channels_in} input and {channels_out} output channels; it must have"
            f" {channels_in} output channels, or {2 * channels_in} with a learned variance"
        )
    return channels_out == 2 * channels_in


def read_network(folder: epath.Path) -> tuple[epath.Path, Section]:
    """Returns the folder of a diffusers network and its config.json, from a pipeline's folder or its own.

    Raises ValueError for anything but a DDPM of the paper's network.
    """
    index = folder / "model_index.json"
    if index.exists():
        diffusers.check_pipeline(tensor_files.read_json(index))
    inner = folder / "unet" if (folder / "unet" / "config.json").exists() else folder
    if not (inner / "config.json").exists():
        raise ValueError(f"{folder} holds neither a TensorFlow checkpoint nor a config.json")
    network = tensor_files.read_json(inner / "config.json")
    diffusers.check_network(network)
    return inner, network


def from_folder(folder: epath.Path, file: epath.Path | None = None) -> Source:
    """Reads a diffusers pipeline or its network's folder; 'file', if given, holds the weights."""
    inner, network = read_network(folder)
    file = file or tensor_files.find_weights(inner)
    tensors = formats.rename_old_attention(tensor_files.read_tensors(file))
    if formats.detect(tensors) != "diffusers":
        raise ValueError(f"{inner} has a config.json of diffusers, but tensors of another format")
    architecture = formats.infer_architecture("diffusers", tensors)
    check_architecture(network, architecture)
    if learns_variance(architecture):
        raise ValueError("its network learns the variance itself; here it must be its logarithm")
    shape = *diffusers.image_size(network), architecture.channels_in
    scheduler, notes = read_scheduler(inner)
    sections = config_sections(architecture, shape, diffusers.diffusion_section(scheduler))
    if "dropout" in network:
        sections["model"]["dropout"] = diffusers.dropout(network)
    if file.name not in tensor_files.WEIGHTS:
        notes += (f"its weights are those of {file.name}",)
    return Source(
        path=folder,
        format="diffusers",
        tensors=tensors,
        step=None,
        shape=shape,
        sections=sections,
        notes=notes,
    )


def check_architecture(config: Section, tensors: Architecture) -> None:
    """Raises ValueError, naming the field, if config.json describes a network of other tensors."""
    attended = [kind.startswith("Attn") for kind in config.get("down_block_types") or ()]
    levels = range(len(tensors.multipliers))
    found = {
        "in_channels": tensors.channels_in,
        "out_channels": tensors.channels_out,
        "layers_per_block": tensors.blocks,
        "block_out_channels": [tensors.channels * each for each in tensors.multipliers],
    }
    for name, value in found.items():
        if name in config and config[name] != value:
            raise ValueError(
                f"its config.json has {name} {config[name]!r}, but its tensors {value!r}"
            )
    if attended != [level in tensors.attention for level in levels]:
        raise ValueError(
            f"its config.json has attention at levels {[i for i, on in enumerate(attended) if on]},"
            f" but its tensors at {list(tensors.attention)}"
        )


def read_scheduler(inner: epath.Path) -> tuple[Section, tuple[str, ...]]:
    """Returns scheduler_config.json, from the network's folder or one beside it, and notes for the user."""
    folders = inner, inner / "scheduler", inner.parent / "scheduler"
    candidates = [folder / SCHEDULER for folder in folders]
    existing = [path for path in candidates if path.exists()]
    if not existing:
        return {}, (f"it has no {SCHEDULER}; the schedule is DDPMScheduler's default",)
    scheduler = tensor_files.read_json(existing[0])
    if scheduler.get("clip_sample", True) and scheduler.get("clip_sample_range", 1.0) == 1.0:
        return scheduler, ()
    return scheduler, ("its scheduler does not clip x_0 to -1..1; the samplers here do",)


def config_sections(
    architecture: Architecture, shape: tuple[int, int, int], diffusion: Section
) -> dict[str, Section]:
    """Returns the fields of our config's sections that follow from a checkpoint."""
    model = {
        "channels": architecture.channels,
        "multipliers": architecture.multipliers,
        "blocks": architecture.blocks,
        "attention": tuple(shape[0] // 2**i for i in architecture.attention),
    }
    data = {"image_size": shape[0], "channels": shape[2]}
    return {"data": data, "model": model, "diffusion": diffusion}
