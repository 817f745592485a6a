"""A foreign checkpoint: its format, its tensors, and what they say of the run that made it."""

import json
from functools import lru_cache
from typing import Any, NamedTuple

from etils import epath

from ddpm_jax.runtime import foreign
from ddpm_jax.runtime.foreign import Tensors
from ddpm_jax.weights import diffusers, formats
from ddpm_jax.weights.formats import Architecture

GET_AGAIN = "download it again"
INSTEAD_OF_TORCH = "or use the .safetensors file if there is one"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
ATTENTION_HEIGHT = 16  # every released network has attention here, which tells its images' height
RELEASE_SCHEDULE = {"name": "linear", "T": 1000, "beta_1": 1e-4, "beta_T": 0.02}
Section = dict[str, Any]


class Source(NamedTuple):
    path: epath.Path
    format: str  # one of formats.FORMATS
    tensors: Tensors
    step: int | None
    shape: tuple[int, int, int]  # of its images
    sections: dict[str, Section]  # the fields of our config that follow from it
    notes: tuple[str, ...]  # for the user: assumptions, and settings of its own that are not used


@lru_cache(maxsize=1)  # the config, the check and the program read it
def read(path: str, format: str) -> Source:
    """Reads the checkpoint at 'path', of 'format' or "auto".

    Raises ValueError, one line that says what it is instead, for anything but a DDPM's weights.
    """
    place = epath.Path(path)
    if not place.exists() and foreign.tensorflow_prefix(place) is None:
        raise ValueError(f"--source {path} does not exist")
    try:
        source = open_data_set(place)
    except (ValueError, TypeError, KeyError, OverflowError) as error:  # from JSON of odd types, too
        raise ValueError(f"--source {path} cannot be imported: {error}") from error
    if format not in ("auto", source.format):
        raise ValueError(f"--source {path} has format {source.format}, not --format={format}")
    return source


def open_data_set(path: epath.Path) -> Source:
    prefix = foreign.tensorflow_prefix(path)
    if prefix is not None:
        tensors = foreign.read_tensorflow(prefix, GET_AGAIN)
        return from_release(prefix, tensors, foreign.parse_step(prefix.name))
    if path.is_dir():
        return from_folder(path)
    tensors = read_tensors(path)
    if formats.detect(tensors) == "diffusers":
        return from_folder(path.parent, path)
    return from_release(path, tensors, foreign.parse_step(path.name))


def read_tensors(path: epath.Path) -> Tensors:
    """Reads a file of safetensors or torch's, whichever its first bytes show it to be."""
    head = foreign.check(path, GET_AGAIN)
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return foreign.read_safetensors(path, GET_AGAIN)
    return foreign.read_torch(path, INSTEAD_OF_TORCH, GET_AGAIN)


def from_release(path: epath.Path, tensors: Tensors, step: int | None) -> Source:
    """The authors' checkpoint or pesser's: shapes tell the network, the diffusion is the release's."""
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
    """Whether the network puts out a variance too. Raises ValueError for any other number of channels."""
    channels_in, channels_out = architecture.channels_in, architecture.channels_out
    if channels_out not in (channels_in, 2 * channels_in):
        raise ValueError(
            f"its network takes {channels_in} channels and puts out {channels_out}; it must put out"
            f" {channels_in}, or {2 * channels_in} with a learned variance"
        )
    return channels_out == 2 * channels_in


def from_folder(folder: epath.Path, file: epath.Path | None = None) -> Source:
    """A diffusers pipeline, or its network's folder alone; 'file' holds the weights if it is given."""
    index = folder / "model_index.json"
    if index.exists():
        diffusers.check_pipeline(read_json(index))
    inner = folder / "unet" if (folder / "unet" / "config.json").exists() else folder
    if not (inner / "config.json").exists():
        raise ValueError(f"{folder} holds neither a TensorFlow checkpoint nor a config.json")
    network = read_json(inner / "config.json")
    diffusers.check_network(network)
    tensors = formats.with_current_names(read_tensors(file or find_weights(inner)))
    if formats.detect(tensors) != "diffusers":
        raise ValueError(f"{inner} has a config.json of diffusers, but tensors of another format")
    architecture = formats.infer_architecture("diffusers", tensors)
    if learns_variance(architecture):
        raise ValueError("its network learns the variance itself; here it must be its logarithm")
    shape = *diffusers.image_size(network), architecture.channels_in
    scheduler, notes = read_scheduler(inner)
    sections = config_sections(architecture, shape, diffusers.diffusion_section(scheduler))
    if "dropout" in network:
        sections["model"]["dropout"] = float(network["dropout"])
    return Source(
        path=folder,
        format="diffusers",
        tensors=tensors,
        step=None,
        shape=shape,
        sections=sections,
        notes=notes,
    )


def find_weights(folder: epath.Path) -> epath.Path:
    present = [folder / name for name in WEIGHTS if (folder / name).exists()]
    if not present:
        raise ValueError(f"{folder} has neither {' nor '.join(WEIGHTS)}")
    return present[0]


def read_scheduler(inner: epath.Path) -> tuple[Section, tuple[str, ...]]:
    """scheduler_config.json, from the network's folder or a folder beside it, and notes for the user."""
    folders = inner, inner / "scheduler", inner.parent / "scheduler"
    candidates = [folder / "scheduler_config.json" for folder in folders]
    present = [path for path in candidates if path.exists()]
    if not present:
        return {}, ("it has no scheduler_config.json; the schedule is DDPMScheduler's default",)
    scheduler = read_json(present[0])
    if scheduler.get("clip_sample", True) and scheduler.get("clip_sample_range", 1.0) == 1.0:
        return scheduler, ()
    return scheduler, ("its scheduler does not clip x_0 to -1..1; the samplers here do",)


def read_json(path: epath.Path) -> dict[str, Any]:
    foreign.check(path, GET_AGAIN)
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object")
    return value


def config_sections(
    architecture: Architecture, shape: tuple[int, int, int], diffusion: Section
) -> dict[str, Section]:
    model = {
        "channels": architecture.channels,
        "multipliers": architecture.multipliers,
        "blocks": architecture.blocks,
        "attention": tuple(shape[0] // 2**i for i in architecture.attention),
    }
    data = {"image_size": shape[0], "channels": shape[2]}
    return {"data": data, "model": model, "diffusion": diffusion}
