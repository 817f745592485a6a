"""What a diffusers folder's JSON says, in our config's words, and a run in its.

UNet2DModel has many networks in it; FIXED is which of them is the paper's.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ddpm_jax import parameterization
from ddpm_jax.run.model import Model

Json = Mapping[str, Any]


class Field(NamedTuple):
    ours: Any
    default: Any  # what diffusers takes where it is left out


FIXED = {
    "class_embed_type": Field(None, None),
    "num_class_embeds": Field(None, None),
    "time_embedding_type": Field("positional", "positional"),
    "time_embedding_dim": Field(None, None),
    "flip_sin_to_cos": Field(False, True),  # sines first
    "freq_shift": Field(1, 0),  # the lowest frequency is exactly 1e-4
    "center_input_sample": Field(False, False),
    "act_fn": Field("silu", "silu"),
    "norm_eps": Field(1e-6, 1e-5),
    "downsample_padding": Field(0, 1),  # at the bottom and right only
    "downsample_type": Field("conv", "conv"),
    "upsample_type": Field("conv", "conv"),
    "resnet_time_scale_shift": Field("default", "default"),
    "mid_block_type": Field("UNetMidBlock2D", "UNetMidBlock2D"),
    "mid_block_scale_factor": Field(1, 1),
    "add_attention": Field(True, True),
    "attn_norm_num_groups": Field(None, None),
}
OF_SCHEDULER = {
    "trained_betas": Field(None, None),
    "thresholding": Field(False, False),
    "rescale_betas_zero_snr": Field(False, False),
}
SCHEDULERS = ("DDPM", "DDIM", "PNDM", "DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep")
SCHEDULERS += (
    "EulerDiscrete",
    "EulerAncestralDiscrete",
    "HeunDiscrete",
    "LMSDiscrete",
    "UniPCMultistep",
)
BETAS = {"linear": "linear", "scaled_linear": "quadratic"}
OUTPUTS = {"epsilon": "eps", "sample": "x_0"}
# A learned one is not there: what the network gives is the variance itself in diffusers, here its log.
VARIANCES = {"fixed_small": "fixed_small", "fixed_large": "fixed_large"}
VARIANCES |= {f"{name}_log": ours for name, ours in VARIANCES.items()}
GROUPS = 32  # of a norm; here fewer where channels, also of joined skips, do not divide by it
LATENT = ("vae", "vqvae", "movq")


def check_pipeline(index: Json) -> None:
    """Raises ValueError for a pipeline, by its model_index.json, that is more than a network and a schedule."""
    kind = index.get("_class_name")
    if any(part in index for part in LATENT):
        raise ValueError(f"it is a {kind}: a latent model, whose images are an autoencoder's")
    if "unet" not in index:
        raise ValueError(f"it is a {kind}, which has no U-Net")


def check_fixed(what: str, said: Json, fields: Mapping[str, Field]) -> None:
    for name, (ours, default) in fields.items():
        value = said.get(name, default)
        if value != ours:
            left_out = "" if name in said else ", diffusers' default"
            brief = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:50]} ..."
            raise ValueError(f"its {what} has {name} {brief}{left_out}; here it is {ours!r}")


def check_network(said: Json) -> None:
    """Raises ValueError, naming the field, if config.json is of a network that is not the paper's."""
    kind = said.get("_class_name")
    if kind != "UNet2DModel":
        raise ValueError(f"its network is a {kind}, not a UNet2DModel")
    if said.get("num_class_embeds") or said.get("class_embed_type"):
        raise ValueError("its network is class-conditional (num_class_embeds), which ours is not")
    swish = {"act_fn": "silu"} if said.get("act_fn") == "swish" else {}
    check_fixed("network", {**said, **swish}, FIXED)
    widths = list(said.get("block_out_channels") or (224, 448, 672, 896))
    down, up = (list(said.get(f"{way}_block_types") or ()) for way in ("down", "up"))
    mirrored = [each.replace("Down", "Up") for each in reversed(down)]
    if not set(down) <= {"DownBlock2D", "AttnDownBlock2D"} or up != mirrored:
        raise ValueError(
            f"its down_block_types and up_block_types are {', '.join(down + up)}; here there are"
            " DownBlock2D and AttnDownBlock2D, and their likes upwards in reverse"
        )
    groups, head = said.get("norm_num_groups", 32), said.get("attention_head_dim", 8)
    attended = [width for width, each in zip(widths, down, strict=False) if each.startswith("Attn")]
    if head is not None and any(width != head for width in [*attended, widths[-1]]):
        raise ValueError(
            f"its attention has heads of {head} channels, attention_head_dim; here one"
        )
    if groups != GROUPS or any(width % GROUPS for width in widths):
        raise ValueError(f"its norms of {widths} channels are in {groups} groups, not in {GROUPS}")


def size(said: Json) -> tuple[int, int]:
    value = said.get("sample_size")
    if value is None:
        raise ValueError("its config.json does not say the images' size, sample_size")
    height, width = value if isinstance(value, list | tuple) else (value, value)
    return int(height), int(width)


def diffusion(said: Json) -> dict[str, Any]:
    """Our 'diffusion' section, of what scheduler_config.json says. Raises ValueError for what there is not here."""
    kind = said.get("_class_name", "DDPMScheduler")
    if kind.removeprefix("Flax").removesuffix("Scheduler") not in SCHEDULERS:
        raise ValueError(f"its scheduler is a {kind}, whose schedule is not known here")
    check_fixed("scheduler", said, OF_SCHEDULER)
    choices = (
        ("beta_schedule", "linear", BETAS),
        ("prediction_type", "epsilon", OUTPUTS),
        ("variance_type", "fixed_small", VARIANCES),
    )
    chosen = {}
    for name, default, known in choices:
        value = said.get(name, default)
        if value not in known:
            raise ValueError(
                f"its scheduler has {name} {value!r}; here there is {', '.join(known)}"
            )
        chosen[name] = known[value]
    schedule = {"name": chosen["beta_schedule"]}
    for name, ours, default in (
        ("num_train_timesteps", "T", 1000),
        ("beta_start", "beta_1", 1e-4),
        ("beta_end", "beta_T", 0.02),
    ):
        schedule[ours] = said.get(name, default)
        if type(schedule[ours]) is not type(default):
            raise ValueError(
                f"its scheduler has {name} {schedule[ours]!r}, which is no number for it"
            )
    output, variance = chosen["prediction_type"], chosen["variance_type"]
    return {"schedule": schedule, "output": output, "variance": variance, "loss": "simple"}


def widths_of(model: Model) -> list[int]:
    return [model.unet.channels * multiplier for multiplier in model.unet.multipliers]


def check_groups(model: Model) -> None:
    """Raises ValueError for a network whose norms differ in their number of groups, as UNet2DModel's cannot."""
    if any(width % GROUPS for width in widths_of(model)):
        raise ValueError(
            f"this network is {widths_of(model)} channels wide; diffusers has norms in {GROUPS} groups"
            f" only where all are multiples of {GROUPS}, and it cannot be exported"
        )


def of_network(model: Model) -> dict[str, Any]:
    """config.json of a run's U-Net."""
    unet, (height, width, channels) = model.unet, model.shape
    widths = widths_of(model)
    at = ["Attn" if height // 2**i in unet.attention else "" for i in range(len(widths))]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": unet.out_channels,
        "layers_per_block": unet.blocks,
        "block_out_channels": widths,
        "down_block_types": [f"{attention}DownBlock2D" for attention in at],
        "up_block_types": [f"{attention}UpBlock2D" for attention in reversed(at)],
        "attention_head_dim": None,
        "norm_num_groups": math.gcd(GROUPS, *widths),
        "dropout": unet.dropout,
        **{name: field.ours for name, field in FIXED.items()},
    }


def of_schedule(model: Model, section: Json) -> dict[str, Any]:
    """scheduler_config.json. Raises ValueError for what DDPMScheduler cannot be.

    'section' is the config's 'diffusion'.
    """
    if model.unet.classes:
        raise ValueError("this network asks for labels, and DDPMPipeline gives none")
    if model.variance is parameterization.learned_range:
        raise ValueError("export of a variance of learned_range is not offered")
    if model.variance is parameterization.learned:
        raise ValueError(
            "this network learns the logarithm of its variance, which diffusers would take for the"
            " variance itself; it cannot be exported"
        )
    outputs = {ours: theirs for theirs, ours in OUTPUTS.items()}
    if section["output"] not in outputs:
        raise ValueError(
            f"this network's output is {section['output']}, which diffusers does not know;"
            " it cannot be exported"
        )
    betas = {ours: theirs for theirs, ours in BETAS.items()}
    named = section["schedule"]["name"] in betas
    # Of another schedule DDPMScheduler goes by 'trained_betas' alone.
    first, last = (section["schedule"][name] if named else 0.0 for name in ("beta_1", "beta_T"))
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
        "trained_betas": None if named else np.asarray(model.sched.beta[1:]).tolist(),
    }
