"""Foreign checkpoints <-> our parameters: the names and layouts in which DDPM weights circulate.

  tf1        variables of the authors' release, with their EMA and Adam's moments
  pesser     its conversion to PyTorch (pytorch_diffusion)
  diffusers  UNet2DModel

A format maps the path of a parameter here, such as "down_0/block_1/conv1/kernel", to a tensor's name
there, and says how the array is laid out. Everything else follows from our own network.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ddpm_jax.runtime import digest
from ddpm_jax.runtime.foreign import Tensors

MATRICES = ("q", "k", "v", "proj_out", "nin_shortcut")  # the release's "nin"


class Format(NamedTuple):
    """The names and the array layout of one kind of checkpoint."""

    tensor_name: Callable[[str, int], str]  # of our path and the number of levels
    has_torch_layout: bool  # OIHW and [out, in] instead of HWIO and [in, out]
    convolutions: tuple[str, ...]  # modules with a matrix here and a 1x1 convolution there


def tf1(path: str, levels: int) -> str:
    *modules, leaf = path.split("/")
    is_norm = modules[-1].startswith("norm")
    leaf = {"kernel": "W", "scale": "gamma", "bias": "beta" if is_norm else "b"}[leaf]
    return "/".join(["model", *modules, leaf])


def pesser(path: str, levels: int) -> str:
    name = re.sub(r"(kernel|scale)$", "weight", path).replace("/", ".")
    name = re.sub(r"^temb\.dense(\d)", r"temb.dense.\1", name)
    return name if name.startswith("mid.") else re.sub(r"\b(down|up|block|attn)_", r"\1.", name)


DIFFUSERS_NAMES = {
    "temb": "time_embedding",
    "dense0": "linear_1",
    "dense1": "linear_2",
    "mid": "mid_block",
    "norm_out": "conv_norm_out",
    "downsample": "downsamplers.0",
    "upsample": "upsamplers.0",
    "temb_proj": "time_emb_proj",
    "nin_shortcut": "conv_shortcut",
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    "kernel": "weight",
    "scale": "weight",
}


def diffusers(path: str, levels: int) -> str:
    first = 1 if path.startswith("mid/") else 0  # the release numbers the middle blocks from 1

    def rename(module: str) -> str:
        kind, _, number = module.rpartition("_")
        if kind == "down":
            return f"down_blocks.{number}"
        if kind == "up":  # diffusers numbers them in the order in which they run
            return f"up_blocks.{levels - 1 - int(number)}"
        if kind in ("block", "attn"):
            return f"{'resnets' if kind == 'block' else 'attentions'}.{int(number) - first}"
        return DIFFUSERS_NAMES.get(module, module)

    return ".".join(map(rename, path.split("/")))


FORMATS = {
    "tf1": Format(tensor_name=tf1, has_torch_layout=False, convolutions=()),
    "pesser": Format(tensor_name=pesser, has_torch_layout=True, convolutions=MATRICES),
    "diffusers": Format(
        tensor_name=diffusers, has_torch_layout=True, convolutions=("nin_shortcut",)
    ),
}
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
UNSUPPORTED = {  # tensor names of weights that are often mistaken for a DDPM's
    r"transformer_blocks|attn2": "a text-conditional network, such as Stable Diffusion's",
    r"^(model\.diffusion_model|first_stage_model|cond_stage_model)\.": "a latent diffusion model",
    r"^(class_embedding|label_emb)": "a class-conditional network",
    r"^(input_blocks|middle_block|output_blocks)\.": "OpenAI's network (improved, guided diffusion)",
    r"^(encoder|decoder|quant_conv|post_quant_conv)\.": "an autoencoder",
}
SUPPORTED = "only a DDPM network with the authors', pesser's or diffusers' names can be imported"


def rename_old_attention(tensors: Tensors) -> Tensors:
    """Renames the attention tensors of 2022's diffusers to the names it uses today."""
    old = re.compile(rf"(\.attentions\.\d+)\.({'|'.join(OLD_ATTENTION)})\.")

    def rename(match: re.Match) -> str:
        return f"{match[1]}.{OLD_ATTENTION[match[2]]}."

    return {old.sub(rename, name): array for name, array in tensors.items()}


def detect(tensors: Tensors) -> str:
    """Returns the format of the tensors, by their names. Raises ValueError for any other checkpoint."""
    for pattern, description in UNSUPPORTED.items():
        if any(re.search(pattern, name) for name in tensors):
            raise ValueError(f"it is {description}; {SUPPORTED}")
    for name, format in FORMATS.items():
        if format.tensor_name("temb/dense0/kernel", 1) in tensors:
            return name
    first = ", ".join(sorted(tensors)[:3])
    raise ValueError(f"its tensors ({first or 'none'}, ...) belong to no known format; {SUPPORTED}")


class Architecture(NamedTuple):
    """The fields of a network that the shapes of its parameters determine."""

    channels_in: int
    channels_out: int
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]  # levels, counted from 0 at the highest resolution


def infer_architecture(format: str, tensors: Tensors) -> Architecture:
    """Reads the network's architecture off its biases and scales, which have one layout everywhere.

    Raises ValueError if one that it needs is missing.
    """
    tensor_name = FORMATS[format].tensor_name

    def size(path: str) -> int:
        if tensor_name(path, 0) not in tensors:
            raise ValueError(f"it has no tensor {tensor_name(path, 0)}; {SUPPORTED}")
        return tensors[tensor_name(path, 0)].size

    def count(pattern: str) -> int:
        return next(n for n in range(1000) if tensor_name(pattern.format(n), 0) not in tensors)

    channels = size("conv_in/bias")
    levels = range(count("down_{}/block_0/conv1/bias"))
    widths = [size(f"down_{i}/block_0/conv1/bias") for i in levels]
    if not widths or any(width % channels for width in widths):
        raise ValueError(
            f"its levels have widths {widths}, not multiples of {channels}; {SUPPORTED}"
        )
    return Architecture(
        channels_in=size("conv_in/kernel") // (9 * channels),
        channels_out=size("conv_out/bias"),
        channels=channels,
        multipliers=tuple(width // channels for width in widths),
        blocks=count("down_0/block_{}/conv1/bias"),
        attention=tuple(
            i for i in levels if tensor_name(f"down_{i}/attn_0/norm/scale", 0) in tensors
        ),
    )


def to_foreign_layout(format: Format, path: str, array: np.ndarray) -> np.ndarray:
    """Returns one of our parameters in the format's layout: for torch, OIHW and [out, in]."""
    if not format.has_torch_layout or array.ndim < 2:
        return array
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T[..., None, None] if path.split("/")[-2] in format.convolutions else array.T


def to_our_layout(format: Format, array: np.ndarray, dimensions: int) -> np.ndarray:
    """Inverts to_foreign_layout for one of our parameters with this many dimensions."""
    if not format.has_torch_layout or dimensions < 2:
        return array
    if dimensions == 4:
        return array.transpose(2, 3, 1, 0)
    return array.reshape(array.shape[:2]).T


def tensor_names(format: str, like: Any, suffix: str = "") -> dict[str, str]:
    """Returns the name in the format of each of our parameters, by its path, in the tree's order."""
    paths = digest.leaves_by_path(like)
    levels = sum(path.startswith("down_") for path in like)
    return {path: FORMATS[format].tensor_name(path, levels) + suffix for path in paths}


def check_tensors(format: str, tensors: Tensors, like: Any, suffix: str = "") -> None:
    """Raises ValueError, naming the first tensor that is missing, misshapen or not finite.

    The names end with 'suffix'; 'like' has the shapes of our parameters.
    """
    names, leaves = tensor_names(format, like, suffix), digest.leaves_by_path(like)
    missing = [name for name in names.values() if name not in tensors]
    if missing:
        raise ValueError(
            f"it has no tensor {missing[0]}; {len(missing)} of {len(names)} are missing"
        )
    for path, name in names.items():
        ours = np.broadcast_to(np.float32(0), leaves[path].shape)
        expected = to_foreign_layout(FORMATS[format], path, ours).shape
        if tensors[name].shape != expected:
            raise ValueError(f"its tensor {name} has shape {tensors[name].shape}, not {expected}")
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"its tensor {name} has values that are not finite")


def to_params(format: str, tensors: Tensors, like: Any, suffix: str = "") -> Any:
    """Converts tensors that check_tensors has passed to our parameters, as float32."""
    leaves = digest.leaves_by_path(like)
    arrays = []
    for path, name in tensor_names(format, like, suffix).items():
        ours = to_our_layout(FORMATS[format], tensors[name], len(leaves[path].shape))
        arrays.append(np.ascontiguousarray(ours, np.float32))
    return jax.tree.unflatten(jax.tree.structure(like), arrays)


def to_tensors(format: str, params: Any) -> dict[str, np.ndarray]:
    """Converts our parameters to the format's tensors, by their names."""
    leaves, layout = digest.leaves_by_path(params), FORMATS[format]
    return {
        name: np.ascontiguousarray(to_foreign_layout(layout, path, np.asarray(leaves[path])))
        for path, name in tensor_names(format, params).items()
    }


def check_no_extra(tensors: Tensors, used: set[str]) -> None:
    """Raises ValueError, naming the first, if there are tensors besides those used."""
    extra = sorted(tensors.keys() - used)
    if extra:
        raise ValueError(
            f"its tensor {extra[0]} has no place in this network; {len(extra)} of its tensors have none"
        )
