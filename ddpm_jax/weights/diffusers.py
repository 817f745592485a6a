"""Translates the JSON files of a diffusers folder to our config, and a run to those files.

UNet2DModel covers many networks; FIXED_FIELDS are the fields that make one of them the paper's.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ddpm_jax import parameterization
from ddpm_jax.run.model import Model

Json = Mapping[str, Any]


class Field(NamedTuple):
    """A field of diffusers whose value our networks fix."""

    ours: Any
    default: Any  # diffusers' value if the field is missing


FIXED_FIELDS = {
    "class_embed_type": Field(None, None),
    "num_class_embeds": Field(None, None),
    "time_embedding_type": Field("positional", "positional"),
    "time_embedding_dim": Field(None, None),
    "flip_sin_to_cos": Field(False, True),  # sines first
    "freq_shift": Field(1, 0),  # makes the lowest frequency exactly 1e-4
    "center_input_sample": Field(False, False),
    "act_fn": Field("silu", "silu"),
    "norm_eps": Field(1e-6, 1e-5),
    "downsample_padding": Field(0, 1),  # pads at the bottom and right only
    "downsample_type": Field("conv", "conv"),
    "upsample_type": Field("conv", "conv"),
    "resnet_time_scale_shift": Field("default", "default"),
    "mid_block_type": Field("UNetMidBlock2D", "UNetMidBlock2D"),
    "mid_block_scale_factor": Field(1, 1),
    "add_attention": Field(True, True),
    "attn_norm_num_groups": Field(None, None),
}
FIXED_SCHEDULER_FIELDS = {
    "trained_betas": Field(None, None),
    "thresholding": Field(False, False),
    "rescale_betas_zero_snr": Field(False, False),
}
SCHEDULERS = ("DDPM", "DDIM", "PNDM", "DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep")
SCHEDULERS += ("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "LMSDiscrete")
SCHEDULERS += ("UniPCMultistep",)
BETAS = {"linear": "linear", "scaled_linear": "quadratic"}
OUTPUTS = {"epsilon": "eps", "sample": "x_0"}
# No learned variance: diffusers' networks predict the variance itself, ours its logarithm.
VARIANCES = {"fixed_small": "fixed_small", "fixed_large": "fixed_large"}
VARIANCES |= {f"{name}_log": ours for name, ours in VARIANCES.items()}
GROUPS = 32  # in every norm of diffusers; ours use fewer if 32 does not divide their channels
LATENT_MODULES = ("vae", "vqvae", "movq")


def check_pipeline(index: Json) -> None:
    """Raises ValueError if model_index.json describes more than a network and a schedule."""
    kind = index.get("_class_name")
    if any(module in index for module in LATENT_MODULES):
        raise ValueError(f"it is a {kind}, a latent model that diffuses an autoencoder's codes")
    if "unet" not in index:
        raise ValueError(f"it is a {kind}, which has no U-Net")


def check_fixed(section: str, config: Json, fields: Mapping[str, Field]) -> None:
    """Raises ValueError, naming the field, if one differs from what our networks have."""
    for name, (ours, default) in fields.items():
        value = config.get(name, default)
        if value != ours:
            source = "" if name in config else ", diffusers' default"
            shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:50]} ..."
            raise ValueError(f"its {section} has {name} {shown}{source}; it must be {ours!r}")


def check_network(config: Json) -> None:
    """Raises ValueError, naming the field, if config.json describes another network than the paper's."""
    kind = config.get("_class_name")
    if kind != "UNet2DModel":
        raise ValueError(f"its network is a {kind}, not a UNet2DModel")
    if config.get("num_class_embeds") or config.get("class_embed_type"):
        raise ValueError(
            "its network is class-conditional (num_class_embeds), which cannot be imported"
        )
    swish = {"act_fn": "silu"} if config.get("act_fn") == "swish" else {}  # one function, two names
    check_fixed("network", {**config, **swish}, FIXED_FIELDS)
    check_blocks(config)


def check_blocks(config: Json) -> None:
    """Raises ValueError for blocks, attention heads or norms that the paper's network does not have."""
    widths = config.get("block_out_channels") or [224, 448, 672, 896]
    if not isinstance(widths, list) or any(type(width) is not int for width in widths):
        raise ValueError(f"its block_out_channels is {widths!r}; it must be a list of integers")
    down, up = (list(config.get(f"{way}_block_types") or ()) for way in ("down", "up"))
    mirrored = [block.replace("Down", "Up") for block in reversed(down)]
    if not set(down) <= {"DownBlock2D", "AttnDownBlock2D"} or up != mirrored:
        raise ValueError(
            f"its down_block_types and up_block_types are {', '.join(down + up)}; they must be"
            " DownBlock2D and AttnDownBlock2D, and the matching up blocks in reverse order"
        )
    groups, head = config.get("norm_num_groups", 32), config.get("attention_head_dim", 8)
    attended = [width for width, kind in zip(widths, down, strict=False) if kind.startswith("Attn")]
    if head is not None and any(width != head for width in [*attended, widths[-1]]):
        raise ValueError(
            f"its attention has heads of {head} channels (attention_head_dim); it must have one head"
        )
    if groups != GROUPS or any(width % GROUPS for width in widths):
        raise ValueError(
            f"its norms split {widths} channels into {groups} groups; there must be {GROUPS} groups,"
            " and they must divide the channels"
        )


def image_size(config: Json) -> tuple[int, int]:
    """Returns height and width of the images from config.json. Raises ValueError without them."""
    value = config.get("sample_size")
    if value is None:
        raise ValueError("its config.json does not say the images' size (sample_size)")
    sizes = value if isinstance(value, list) else [value]
    if len(sizes) not in (1, 2) or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(
            f"its network has sample_size {value!r}; it must be one size, or height and width"
        )
    return sizes[0], sizes[-1]


def dropout(config: Json) -> float:
    """Returns the rate of dropout from config.json. Raises ValueError for another type."""
    value = config.get("dropout", 0.0)
    if type(value) not in (int, float):
        raise ValueError(f"its network has dropout {value!r}; it must be a number")
    return float(value)


def diffusion_section(config: Json) -> dict[str, Any]:
    """Returns our diffusion section for a scheduler_config.json. Raises ValueError without a counterpart."""
    kind = config.get("_class_name", "DDPMScheduler")
    if kind.removeprefix("Flax").removesuffix("Scheduler") not in SCHEDULERS:
        raise ValueError(f"its scheduler is a {kind}, which cannot be imported")
    check_fixed("scheduler", config, FIXED_SCHEDULER_FIELDS)
    choices = (
        ("beta_schedule", "linear", BETAS),
        ("prediction_type", "epsilon", OUTPUTS),
        ("variance_type", "fixed_small", VARIANCES),
    )
    chosen = {}
    for name, default, known in choices:
        value = config.get(name, default)
        if value not in known:
            raise ValueError(
                f"its scheduler has {name} {value!r}; it must be one of {', '.join(known)}"
            )
        chosen[name] = known[value]
    schedule = {"name": chosen["beta_schedule"]}
    for name, ours, default in (
        ("num_train_timesteps", "T", 1000),
        ("beta_start", "beta_1", 1e-4),
        ("beta_end", "beta_T", 0.02),
    ):
        schedule[ours] = config.get(name, default)
        if type(schedule[ours]) is not type(default):
            expected = type(default).__name__
            raise ValueError(
                f"its scheduler has {name} {schedule[ours]!r}; it must be of type {expected}"
            )
    output, variance = chosen["prediction_type"], chosen["variance_type"]
    return {"schedule": schedule, "output": output, "variance": variance, "loss": "simple"}


def level_widths(model: Model) -> list[int]:
    """Returns the channels of each level of a run's U-Net."""
    return [model.network.channels * multiplier for multiplier in model.network.multipliers]


def check_groups(model: Model) -> None:
    """Raises ValueError if the norms have different numbers of groups, which UNet2DModel cannot have."""
    widths = level_widths(model)
    if any(width % GROUPS for width in widths):
        raise ValueError(
            f"this network's levels have {widths} channels; diffusers needs multiples of {GROUPS},"
            " so it cannot be exported"
        )


def network_config(model: Model) -> dict[str, Any]:
    """Returns the config.json of a run's U-Net."""
    unet, (height, width, channels) = model.network, model.shape
    widths = level_widths(model)
    attention = ["Attn" if height // 2**i in unet.attention else "" for i in range(len(widths))]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": unet.out_channels,
        "layers_per_block": unet.blocks,
        "block_out_channels": widths,
        "down_block_types": [f"{prefix}DownBlock2D" for prefix in attention],
        "up_block_types": [f"{prefix}UpBlock2D" for prefix in reversed(attention)],
        "attention_head_dim": None,
        "norm_num_groups": math.gcd(GROUPS, *widths),
        "dropout": unet.dropout,
        **{name: field.ours for name, field in FIXED_FIELDS.items()},
    }


def scheduler_config(model: Model, section: Json) -> dict[str, Any]:
    """Returns the scheduler_config.json of a model and its config's diffusion section.

    Raises ValueError for a model that DDPMScheduler cannot express.
    """
    if model.network.classes:
        raise ValueError("this network needs labels, which DDPMPipeline does not pass")
    if model.variance is parameterization.learned_range:
        raise ValueError("a network with variance learned_range cannot be exported")
    if model.variance is parameterization.learned:
        raise ValueError(
            "this network learns the logarithm of its variance, which diffusers would mistake for the"
            " variance itself; it cannot be exported"
        )
    outputs = {ours: theirs for theirs, ours in OUTPUTS.items()}
    if section["output"] not in outputs:
        raise ValueError(
            f"this network's output is {section['output']}, which diffusers does not have;"
            " it cannot be exported"
        )
    betas = {ours: theirs for theirs, ours in BETAS.items()}
    known = section["schedule"]["name"] in betas
    # For other schedules DDPMScheduler reads 'trained_betas' only.
    first, last = (section["schedule"][name] if known else 0.0 for name in ("beta_1", "beta_T"))
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": model.sched.T,
        "beta_schedule": betas.get(section["schedule"]["name"], "linear"),
        "beta_start": first,
        "beta_end": last,
        "prediction_type": outputs[section["output"]],
        "variance_type": section["variance"],
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "trained_betas": None if known else np.asarray(model.sched.beta[1:]).tolist(),
    }
