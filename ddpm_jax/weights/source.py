"""A foreign checkpoint: which it is, its tensors, and what it says of the run that it came from."""

import json
from functools import lru_cache
from typing import Any, NamedTuple

from etils import epath

from ddpm_jax.runtime import foreign
from ddpm_jax.runtime.foreign import Tensors
from ddpm_jax.weights import diffusers, formats
from ddpm_jax.weights.formats import Architecture

GET = "get it again"
INSTEAD = "or take the .safetensors where there is one"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
ATTENDED = 16  # the height at which every released network has attention: it tells the images'
RELEASED = {"schedule": {"name": "linear", "T": 1000, "beta_1": 1e-4, "beta_T": 0.02}}


class Source(NamedTuple):
    path: epath.Path
    format: str  # of convert.FORMATS
    tensors: Tensors
    step: int | None
    shape: tuple[int, int, int]  # of its images
    sections: dict[str, dict[str, Any]]  # what of a config follows from it
    notes: tuple[str, ...]  # what it says that does not hold here


@lru_cache(maxsize=1)  # its config is asked for more than once
def read(path: str, format: str) -> Source:
    """The checkpoint at 'path', of 'format' or "auto".

    Raises ValueError, one line that says what it is instead, for anything that is no DDPM's.
    """
    place = epath.Path(path)
    if not place.exists() and foreign.tensorflow_prefix(place) is None:
        raise ValueError(f"--source {path} does not exist")
    try:
        source = opened(place)
    except (ValueError, TypeError, KeyError, OverflowError) as error:  # JSON of other types, too
        raise ValueError(f"--source {path} cannot be imported: {error}") from error
    if format not in ("auto", source.format):
        raise ValueError(f"--source {path} is of format {source.format}, not {format}")
    return source


def opened(path: epath.Path) -> Source:
    prefix = foreign.tensorflow_prefix(path)
    if prefix is not None:
        tensors = foreign.read_tensorflow(prefix, GET)
        return released(prefix, tensors, foreign.step_of(prefix.name))
    if path.is_dir():
        return from_folder(path)
    tensors = read_file(path)
    if formats.detect(tensors) == "diffusers":
        return from_folder(path.parent, path)
    return released(path, tensors, foreign.step_of(path.name))


def read_file(path: epath.Path) -> Tensors:
    """The tensors of a file, of whichever kind its first bytes say it is."""
    head = foreign.check(path, GET)
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return foreign.read_safetensors(path, GET)
    return foreign.read_torch(path, INSTEAD, GET)


def released(path: epath.Path, tensors: Tensors, step: int | None) -> Source:
    """The authors' checkpoint or pesser's: the diffusion is the release's, the rest in the shapes."""
    format = formats.detect(tensors)
    found = formats.architecture(format, tensors)
    if not found.attention:
        raise ValueError(f"no level has attention, so its images' size is unknown; {formats.OURS}")
    size = ATTENDED * 2 ** found.attention[0]
    learned = check_channels(found)
    variance = "learned" if learned else "fixed_small" if size >= 256 else "fixed_large"
    loss = "vlb" if learned else "simple"
    diffusion = RELEASED | {"output": "eps", "variance": variance, "loss": loss}
    shape = size, size, found.channels_in
    guess = ", ".join(f"{name} {diffusion[name]}" for name in ("output", "variance", "loss"))
    notes = (f"such files do not say: {guess}, linear schedule, unless --config=FILE says it",)
    return Source(path, format, tensors, step, shape, sections(found, shape, diffusion), notes)


def check_channels(found: Architecture) -> bool:
    """Whether a variance comes out beside what went in. Raises ValueError if neither does."""
    if found.channels_out not in (found.channels_in, 2 * found.channels_in):
        raise ValueError(f"its network makes {found.channels_out} channels of {found.channels_in}")
    return found.channels_out == 2 * found.channels_in


def from_folder(folder: epath.Path, file: epath.Path | None = None) -> Source:
    """A pipeline of diffusers, or the folder of its network, of which 'file' has the weights."""
    index = folder / "model_index.json"
    if index.exists():
        diffusers.check_pipeline(read_json(index))
    inner = folder / "unet" if (folder / "unet" / "config.json").exists() else folder
    if not (inner / "config.json").exists():
        raise ValueError(f"{folder} holds no checkpoint of TensorFlow's and no config.json")
    said = read_json(inner / "config.json")
    diffusers.check_network(said)
    tensors = formats.modern(read_file(file or weights_in(inner)))
    if formats.detect(tensors) != "diffusers":
        raise ValueError(f"{inner} has a config.json of diffusers, and tensors of another format")
    found = formats.architecture("diffusers", tensors)
    if check_channels(found):
        raise ValueError("its network learns a variance, and not its logarithm as here")
    shape = *diffusers.size(said), found.channels_in
    of_scheduler, notes = scheduler_of(inner)
    made = sections(found, shape, diffusers.diffusion(of_scheduler))
    if "dropout" in said:
        made["model"]["dropout"] = float(said["dropout"])
    return Source(folder, "diffusers", tensors, None, shape, made, notes)


def weights_in(folder: epath.Path) -> epath.Path:
    there = [folder / name for name in WEIGHTS if (folder / name).exists()]
    if not there:
        raise ValueError(f"{folder} has neither {' nor '.join(WEIGHTS)}")
    return there[0]


def scheduler_of(inner: epath.Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """scheduler_config.json, beside the network or in a folder beside it, and what to say of it."""
    places = inner, inner / "scheduler", inner.parent / "scheduler"
    there = [path / "scheduler_config.json" for path in places]
    there = [path for path in there if path.exists()]
    if not there:
        return {}, ("it has no scheduler_config.json: the schedule is DDPMScheduler's default",)
    said = read_json(there[0])
    if said.get("clip_sample", True) and said.get("clip_sample_range", 1.0) == 1.0:
        return said, ()
    return said, ("its scheduler does not clip x_0 to -1..1, which samplers here do",)


def read_json(path: epath.Path) -> dict[str, Any]:
    foreign.check(path, GET)
    try:
        said = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path} is no JSON object")
    return said


def sections(
    found: Architecture, shape: tuple[int, int, int], diffusion: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    model = {
        "channels": found.channels,
        "multipliers": found.multipliers,
        "blocks": found.blocks,
        "attention": tuple(shape[0] // 2**i for i in found.attention),
    }
    data = {"image_size": shape[0], "channels": shape[2]}
    return {"data": data, "model": model, "diffusion": diffusion}
