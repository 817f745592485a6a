"""Foreign checkpoints <-> our parameters: the names and layouts in which DDPM weights circulate.

  tf1        variables of the authors' release, with their EMA and Adam's moments
  pesser     its conversion to PyTorch (pytorch_diffusion)
  diffusers  UNet2DModel

A format is what a parameter is called there, given its path here, "down_0/block_1/conv1/kernel", and how
its array lies there. All else follows from our own network.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ddpm_jax.runtime import digest

Tensors = Mapping[str, np.ndarray]
MATRICES = ("q", "k", "v", "proj_out", "nin_shortcut")  # the release's "nin"


class Format(NamedTuple):
    name_of: Callable[[str, int], str]  # of a path here, and the number of levels
    has_torch_layout: bool
    convolutions: tuple[str, ...]  # what is a matrix here and a 1x1 convolution there


def tf1(path: str, levels: int) -> str:
    *modules, leaf = path.split("/")
    of_norm = modules[-1].startswith("norm")
    leaf = {"kernel": "W", "scale": "gamma", "bias": "beta" if of_norm else "b"}[leaf]
    return "/".join(["model", *modules, leaf])


def pesser(path: str, levels: int) -> str:
    name = re.sub(r"(kernel|scale)$", "weight", path).replace("/", ".")
    name = re.sub(r"^temb\.dense(\d)", r"temb.dense.\1", name)
    return name if name.startswith("mid.") else re.sub(r"\b(down|up|block|attn)_", r"\1.", name)


THERE = {
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
    first = 1 if path.startswith("mid/") else 0  # the release's number of the first block there

    def word(module: str) -> str:
        kind, _, number = module.rpartition("_")
        if kind == "down":
            return f"down_blocks.{number}"
        if kind == "up":  # there in the order in which they run
            return f"up_blocks.{levels - 1 - int(number)}"
        if kind in ("block", "attn"):
            return f"{'resnets' if kind == 'block' else 'attentions'}.{int(number) - first}"
        return THERE.get(module, module)

    return ".".join(map(word, path.split("/")))


FORMATS = {
    "tf1": Format(tf1, False, ()),
    "pesser": Format(pesser, True, MATRICES),
    "diffusers": Format(diffusers, True, ("nin_shortcut",)),
}
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
OTHERS = {  # what else is taken for DDPM weights, by its tensors' names
    r"transformer_blocks|attn2": "a text-conditional network, of Stable Diffusion or its like",
    r"^(model\.diffusion_model|first_stage_model|cond_stage_model)\.": "a latent diffusion model",
    r"^(class_embedding|label_emb)": "a class-conditional network",
    r"^(input_blocks|middle_block|output_blocks)\.": "OpenAI's network (improved, guided diffusion)",
    r"^(encoder|decoder|quant_conv|post_quant_conv)\.": "an autoencoder",
}
OURS = "what can be imported is the DDPM's network as the authors, pesser or diffusers name it"


def modern(tensors: Tensors) -> Tensors:
    """diffusers' names of today for its attention's names of 2022."""
    old = re.compile(rf"(\.attentions\.\d+)\.({'|'.join(OLD_ATTENTION)})\.")

    def name(match: re.Match) -> str:
        return f"{match[1]}.{OLD_ATTENTION[match[2]]}."

    return {old.sub(name, each): array for each, array in tensors.items()}


def detect(tensors: Tensors) -> str:
    """The format that the names are of. Raises ValueError, saying what else they are."""
    for pattern, what in OTHERS.items():
        if any(re.search(pattern, name) for name in tensors):
            raise ValueError(f"it is {what}; {OURS}")
    for name, format in FORMATS.items():
        if format.name_of("temb/dense0/kernel", 1) in tensors:
            return name
    raise ValueError(f"it has {', '.join(sorted(tensors)[:3]) or 'nothing'}, ...; {OURS}")


class Architecture(NamedTuple):
    """What shapes say about a network."""

    channels_in: int
    channels_out: int
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]  # levels, from the highest resolution's 0


def architecture(format: str, tensors: Tensors) -> Architecture:
    """Of the network whose parameters these are, by biases and scales, which have one layout everywhere.

    Raises ValueError if the first of them are missing.
    """
    name_of = FORMATS[format].name_of

    def size(path: str) -> int:
        if name_of(path, 0) not in tensors:
            raise ValueError(f"it has no {name_of(path, 0)}; {OURS}")
        return tensors[name_of(path, 0)].size

    def count(pattern: str) -> int:
        return next(n for n in range(1000) if name_of(pattern.format(n), 0) not in tensors)

    channels = size("conv_in/bias")
    levels = range(count("down_{}/block_0/conv1/bias"))
    widths = [size(f"down_{i}/block_0/conv1/bias") for i in levels]
    if not widths or any(width % channels for width in widths):
        raise ValueError(f"its levels are {widths} wide, no multiples of {channels}; {OURS}")
    return Architecture(
        size("conv_in/kernel") // (9 * channels),
        size("conv_out/bias"),
        channels,
        tuple(width // channels for width in widths),
        count("down_0/block_{}/conv1/bias"),
        tuple(i for i in levels if name_of(f"down_{i}/attn_0/norm/scale", 0) in tensors),
    )


def outward(format: Format, path: str, array: np.ndarray) -> np.ndarray:
    """Our parameter as it lies there: OIHW and [out, in], where that is torch's."""
    if not format.has_torch_layout or array.ndim < 2:
        return array
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T[..., None, None] if path.split("/")[-2] in format.convolutions else array.T


def inward(format: Format, array: np.ndarray, dimensions: int) -> np.ndarray:
    """The inverse, to a parameter of ours of so many dimensions."""
    if not format.has_torch_layout or dimensions < 2:
        return array
    if dimensions == 4:
        return array.transpose(2, 3, 1, 0)
    return array.reshape(array.shape[:2]).T


def names(format: str, like: Any, suffix: str = "") -> dict[str, str]:
    """Our paths, in the tree's order, and what each is called there."""
    paths = digest.named(like)
    levels = sum(path.startswith("down_") for path in like)
    return {path: FORMATS[format].name_of(path, levels) + suffix for path in paths}


def taken(format: str, tensors: Tensors, like: Any, suffix: str = "") -> Any:
    """Our parameters, float32, out of tensors whose names end with 'suffix'; 'like' has their shapes.

    Raises ValueError, naming the first, for one that is missing, misshapen or not finite.
    """
    known, leaves, form = names(format, like, suffix), digest.named(like), FORMATS[format]
    missing = [name for name in known.values() if name not in tensors]
    if missing:
        raise ValueError(
            f"it has no {missing[0]}, and lacks {len(missing)} tensors of {len(known)}"
        )
    for path, name in known.items():
        wanted = outward(form, path, np.broadcast_to(np.float32(0), leaves[path].shape)).shape
        if tensors[name].shape != wanted:
            raise ValueError(f"its {name} is of shape {tensors[name].shape}, not {wanted}")
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"its {name} is not finite")
    arrays = [
        np.ascontiguousarray(inward(form, tensors[name], len(leaves[path].shape)), np.float32)
        for path, name in known.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), arrays)


def given(format: str, params: Any) -> dict[str, np.ndarray]:
    """Their tensors, of our parameters."""
    leaves, form = digest.named(params), FORMATS[format]
    return {
        name: np.ascontiguousarray(outward(form, path, np.asarray(leaves[path])))
        for path, name in names(format, params).items()
    }


def check_none_left(tensors: Tensors, used: set[str]) -> None:
    """Raises ValueError, naming the first, if there is more than what was used."""
    left = sorted(tensors.keys() - used)
    if left:
        raise ValueError(
            f"its {left[0]} has no place in this network, and {len(left)} of its tensors have none"
        )
