"""The diffusion and model sections of a config: schedule, parameterization, loss and network."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_type_hints

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ddpm_jax import diffusion, parameterization, sde
from ddpm_jax.config import validate
from ddpm_jax.diffusion import Schedule
from ddpm_jax.distributed.mesh import Layout
from ddpm_jax.losses import objective, timesteps
from ddpm_jax.losses.objective import Objective
from ddpm_jax.losses.timesteps import Timesteps
from ddpm_jax.networks import classifier, unet
from ddpm_jax.parameterization import Parameterization, Variance

SCHEDULES = {
    "linear": diffusion.linear,
    "quadratic": diffusion.quadratic,
    "constant": diffusion.constant,
    "cosine": diffusion.cosine,
    "vp": sde.vp,
    "sub_vp": sde.sub_vp,
    "ve": sde.ve,
}
OUTPUTS = {
    "eps": parameterization.eps,
    "x_0": parameterization.x_0,
    "x_prev": parameterization.x_prev,
}
VARIANCES = {
    "fixed_small": parameterization.fixed_small,
    "fixed_large": parameterization.fixed_large,
    "learned": parameterization.learned,
    "learned_range": parameterization.learned_range,
}
TIMESTEPS = {
    "uniform": timesteps.uniform,
    "importance": timesteps.importance,
    "continuous": timesteps.continuous,
}
CLASSIFICATION = "classification"  # the loss that makes the network a classifier
LOSSES = {
    "simple": objective.simple,
    "vlb": objective.vlb,
    "likelihood": objective.likelihood_weighted,
    "hybrid": objective.hybrid,
    CLASSIFICATION: objective.classification,
}
CONTINUOUS = "simple", "likelihood", CLASSIFICATION  # losses that are defined for any t
LIKELIHOODS = {
    "normal": diffusion.discretized_log_likelihood,
    "tanh": diffusion.released_log_likelihood,
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Diffusion(NamedTuple):
    """The diffusion section of a config, built."""

    sched: Schedule
    parameterization: Parameterization
    variance: Variance
    objective: Callable[[int], Objective]  # takes the number of grey levels
    timesteps: Timesteps
    classifies: bool  # the loss trains a classifier


def build_diffusion(
    *,
    schedule: Mapping[str, Any],
    output: str,
    variance: str,
    loss: str,
    log_cdf: str,
    timesteps: str,
) -> Diffusion:
    """Returns the section's values. Raises ValueError for unknown or incompatible names."""
    named, function = validate.named, validate.named_function
    options = {
        "parameterization": named("diffusion.output", output, OUTPUTS, Parameterization),
        "variance": named("diffusion.variance", variance, VARIANCES),
        "log_likelihood": named("diffusion.log_cdf", log_cdf, LIKELIHOODS),
    }
    make_timesteps = function("diffusion.timesteps", timesteps, TIMESTEPS, Timesteps)
    make_loss = function("diffusion.loss", loss, LOSSES, Callable)
    is_learned = parameterization.is_learned(options["variance"])
    is_continuous = loss in CONTINUOUS or getattr(make_loss, "continuous", False)
    check_compatible(output, variance, loss, timesteps, is_learned, is_continuous)
    sched = validate.section(build_schedule, "diffusion.schedule", schedule)

    def make_objective(levels: int) -> Objective:
        return validate.call("diffusion.loss", make_loss, options | {"levels": levels})

    return Diffusion(
        sched=sched,
        parameterization=options["parameterization"],
        variance=options["variance"],
        objective=make_objective,
        timesteps=make_timesteps(sched.T),
        classifies=loss == CLASSIFICATION,
    )


def check_compatible(
    output: str, variance: str, loss: str, timesteps: str, is_learned: bool, is_continuous: bool
) -> None:
    """Raises ValueError for a combination of valid names that defines no model."""
    if loss in CONTINUOUS and is_learned:
        raise ValueError(
            f"diffusion.loss {loss} does not train a {variance} variance; use hybrid or vlb"
        )
    if loss == "hybrid" and not is_learned:
        raise ValueError(
            f"diffusion.loss hybrid trains a variance, and {variance} is fixed; use learned_range"
        )
    if timesteps == "continuous" and (not is_continuous or output == "x_prev"):
        raise ValueError(
            f"diffusion.timesteps continuous draws t between whole steps, where output {output} with"
            f" loss {loss} is undefined; use eps or x_0, and {' or '.join(CONTINUOUS)}"
        )
    if loss == "likelihood" and output == "x_prev":
        raise ValueError("diffusion.loss likelihood needs x_0, and output x_prev is a mean")


Shape = tuple[int, int, int]


def unet_fields(
    shape: Shape,
    layout: Layout,
    *,
    channels: int,
    multipliers: tuple[int, ...],
    blocks: int,
    attention: tuple[int, ...],
    dropout: float,
    dtype: str,
    classes: int,
) -> dict[str, Any]:
    """Returns the arguments of a U-Net, or of a classifier, which is the U-Net's downward half.

    Raises ValueError for numbers out of range, and for images that cannot be halved often enough.
    """
    validate.at_least(1, "model", channels=channels, blocks=blocks)
    validate.at_least(0, "model", classes=classes)
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"model.dropout is {dropout}; it must be at least 0 and below 1")
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"model.multipliers is {multipliers}; it must be one or more of 1, 2, ...")
    unet.check_size(*shape[:2], len(multipliers))
    heights = [shape[0] // 2**i for i in range(len(multipliers))]
    if not set(layout.remat) <= set(heights):
        raise ValueError(f"parallel.remat is {layout.remat}; this network's heights are {heights}")
    return {
        "channels": channels,
        "multipliers": tuple(multipliers),
        "blocks": blocks,
        "attention": tuple(attention),
        "dropout": dropout,
        "dtype": compute_dtype(dtype, layout.mesh.devices.flat[0].platform),
        "remat": layout.remat,
        "classes": classes,
    }


def build_unet(shape: Shape, out_channels: int, layout: Layout, **fields: Any) -> unet.UNet:
    chosen = validate.section(unet_fields, "model", fields, shape, layout)
    return unet.UNet(out_channels=out_channels, **chosen)


def build_classifier(
    shape: Shape, out_channels: int, layout: Layout, **fields: Any
) -> classifier.Classifier:
    return classifier.Classifier(**validate.section(unet_fields, "model", fields, shape, layout))


class Backbone(NamedTuple):
    """One value of 'model.name'.

    'build' takes the shape of the images, the number of output channels, the layout and, by keyword,
    the other fields of the section. It returns a module that is called like Model.network.
    """

    build: Callable[..., nn.Module]
    classifies: bool = False  # it outputs log p(label | x_t), not images


UNET, CLASSIFIER = "unet", "classifier"
NETWORKS = {UNET: Backbone(build_unet), CLASSIFIER: Backbone(build_classifier, classifies=True)}


def find_backbone(name: str) -> Backbone:
    """Returns the entry of a network's name; one of the user's own outputs images."""
    if name in NETWORKS:
        return NETWORKS[name]
    fields = "dtype", "remat", "classes"
    return Backbone(validate.named_function("model.name", name, NETWORKS, nn.Module, fields))


def build_network(
    shape: Shape, diffusion: Diffusion, layout: Layout, *, name: str = "", **fields: Any
) -> nn.Module:
    """Returns the network that 'model.name' names; without a name, the one that the loss trains.

    Raises ValueError for a network that the loss does not train, or for invalid fields.
    """
    name = name or (CLASSIFIER if diffusion.classifies else UNET)
    backbone = find_backbone(name)
    if backbone.classifies != diffusion.classifies:
        trained = "a classifier" if diffusion.classifies else "a network that predicts images"
        raise ValueError(f"model.name is {name}, but this diffusion.loss trains {trained}")
    out_channels = shape[-1] * (2 if parameterization.is_learned(diffusion.variance) else 1)
    return validate.section(backbone.build, "model", fields, shape, out_channels, layout)


def compute_dtype(name: str, platform: str) -> DTypeLike:
    """Returns the dtype of a name; "auto" is bfloat16 on accelerators and float32 on CPUs."""
    if name == "auto":  # bfloat16 convolutions are slow on CPUs
        return jnp.float32 if platform == "cpu" else jnp.bfloat16
    return validate.choice("model.dtype", name, DTYPES)


def build_schedule(name: str, **fields: Any) -> Schedule:
    """Returns the schedule of a section, which may also have the numbers of other schedules of ours.

    Raises ValueError for a number that no schedule uses, a missing number, or one of the wrong type.
    """
    function = validate.named_function("diffusion.schedule.name", name, SCHEDULES, Schedule)
    own = inspect.signature(function).parameters
    numbers = {}
    for schedule in SCHEDULES.values():
        numbers |= get_type_hints(schedule)
    unused = {field for field in fields if field in numbers and field not in own}
    for field in unused:
        validate.check_type(f"diffusion.schedule.{field}", fields[field], numbers[field])
    used = {field: value for field, value in fields.items() if field not in unused}
    return validate.section(function, "diffusion.schedule", used)
