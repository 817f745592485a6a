"""The diffusion and model sections of a config: names and numbers to schedules, outputs, losses, the network."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_type_hints

import flax.linen as nn
import jax.numpy as jnp

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
    sched: Schedule
    parameterization: Parameterization
    variance: Variance
    objective: Callable[[int], Objective]  # of the number of grey levels
    timesteps: Timesteps
    classifies: bool


def diffusion_of(
    *,
    schedule: Mapping[str, Any],
    output: str,
    variance: str,
    loss: str,
    log_cdf: str,
    timesteps: str,
) -> Diffusion:
    """Raises ValueError for an unknown name, and for names that do not go together."""
    options = {
        "parameterization": validate.choice("diffusion.output", output, OUTPUTS),
        "variance": validate.choice("diffusion.variance", variance, VARIANCES),
        "log_likelihood": validate.choice("diffusion.log_cdf", log_cdf, LIKELIHOODS),
    }
    timesteps_of = validate.choice("diffusion.timesteps", timesteps, TIMESTEPS)
    check_together(output, variance, loss, timesteps)
    sched = validate.section(schedule_of, "diffusion.schedule", schedule)
    loss_of = validate.choice("diffusion.loss", loss, LOSSES)

    def objective_of(levels: int) -> Objective:
        return loss_of(**validate.options(loss_of, options | {"levels": levels}))

    return Diffusion(
        sched=sched,
        parameterization=options["parameterization"],
        variance=options["variance"],
        objective=objective_of,
        timesteps=timesteps_of(sched.T),
        classifies=loss == CLASSIFICATION,
    )


def check_together(output: str, variance: str, loss: str, timesteps: str) -> None:
    """Raises ValueError for names that are right one by one, and no model together."""
    is_learned = VARIANCES[variance] in parameterization.LEARNED
    if loss in CONTINUOUS and is_learned:
        raise ValueError(
            f"diffusion.loss {loss} does not train a {variance} variance; use hybrid or vlb"
        )
    if loss == "hybrid" and not is_learned:
        raise ValueError(
            f"diffusion.loss hybrid trains a variance, and {variance} is fixed; use learned_range"
        )
    if timesteps == "continuous" and (loss not in CONTINUOUS or output == "x_prev"):
        raise ValueError(
            f"diffusion.timesteps continuous is between whole t, where output {output} with loss"
            f" {loss} is not defined; take eps or x_0, and {' or '.join(CONTINUOUS)}"
        )
    if loss == "likelihood" and output == "x_prev":
        raise ValueError("diffusion.loss likelihood goes by x_0, and output x_prev is a mean")


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
    """Returns what a U-Net is built with, and a classifier, which is its way down.

    Raises ValueError for numbers out of range, and for images that cannot be halved so often.
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

    'build' takes the shape of the images, the output channels, the layout, and, by keyword, the other
    fields of the section; what it returns is called as Model.network is.
    """

    build: Callable[..., nn.Module]
    classifies: bool = False


UNET, CLASSIFIER = "unet", "classifier"
NETWORKS = {UNET: Backbone(build_unet), CLASSIFIER: Backbone(build_classifier, classifies=True)}


def network_of(
    shape: Shape, diffusion: Diffusion, layout: Layout, *, name: str = "", **fields: Any
) -> nn.Module:
    """Builds the network that 'model.name' names; without a name, the one that the loss trains.

    Raises ValueError for a network that the loss does not train, and as the network's own function does.
    """
    name = name or (CLASSIFIER if diffusion.classifies else UNET)
    backbone = validate.choice("model.name", name, NETWORKS)
    if backbone.classifies != diffusion.classifies:
        trained = "a classifier" if diffusion.classifies else "a network that predicts images"
        raise ValueError(f"model.name is {name}, and this diffusion.loss trains {trained}")
    is_learned = diffusion.variance in parameterization.LEARNED
    out_channels = shape[-1] * (2 if is_learned else 1)
    arguments = shape, out_channels, layout
    return validate.section(backbone.build, "model", fields, *arguments)


def compute_dtype(name: str, platform: str):
    """bfloat16 convolutions are slow on CPUs, so "auto" keeps them to accelerators."""
    if name == "auto":
        return jnp.float32 if platform == "cpu" else jnp.bfloat16
    return validate.choice("model.dtype", name, DTYPES)


def schedule_of(name: str, **fields: Any) -> Schedule:
    """Calls a schedule's function with the numbers that it takes; the section may hold another's too.

    Raises ValueError for a number that no schedule has, one that is missing, or one of the wrong type.
    """
    function = validate.choice("diffusion.schedule.name", name, SCHEDULES)
    own = inspect.signature(function).parameters
    numbers = {}
    for each in SCHEDULES.values():
        numbers |= get_type_hints(each)
    unused = {field for field in fields if field in numbers and field not in own}
    for field in unused:
        validate.check_type(f"diffusion.schedule.{field}", fields[field], numbers[field])
    used = {field: value for field, value in fields.items() if field not in unused}
    return validate.section(function, "diffusion.schedule", used)
