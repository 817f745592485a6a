"""The diffusion and model sections of a config: names and numbers to schedules, outputs, losses, the network."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from ddpm_jax import diffusion, objective, parameterization, settings, unet
from ddpm_jax.diffusion import Schedule
from ddpm_jax.objective import Objective
from ddpm_jax.parallel import Layout
from ddpm_jax.parameterization import Parameterization, Variance
from ddpm_jax.sde import process

SCHEDULES = {
    f.__name__: f
    for f in (
        *(diffusion.linear, diffusion.quadratic, diffusion.constant),
        *(process.vp, process.sub_vp, process.ve),
    )
}
OUTPUTS = {name: getattr(parameterization, name) for name in ("eps", "x_0", "x_prev")}
VARIANCES = {
    f.__name__: f
    for f in (parameterization.fixed_small, parameterization.fixed_large, parameterization.learned)
}
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


def diffusion_of(
    *,
    schedule: Mapping[str, Any],
    output: str,
    variance: str,
    loss: str,
    log_cdf: str,
) -> Diffusion:
    """Raises ValueError for a name that is none, and for a variance that nothing would train."""
    reading = settings.choice("diffusion.output", output, OUTPUTS)
    of_reverse = settings.choice("diffusion.variance", variance, VARIANCES)
    likelihood = settings.choice("diffusion.log_cdf", log_cdf, LIKELIHOODS)
    if loss == "simple" and variance == "learned":
        raise ValueError("diffusion.loss simple does not train a learned variance; use vlb")
    losses = {
        "simple": lambda levels: objective.simple(reading),
        "vlb": lambda levels: objective.vlb(reading, of_reverse, levels, likelihood),
    }
    sched = settings.section(schedule_of, "diffusion.schedule", schedule)
    return Diffusion(sched, reading, of_reverse, settings.choice("diffusion.loss", loss, losses))


def unet_of(
    shape: tuple[int, int, int],
    learned_variance: bool,
    layout: Layout,
    *,
    channels: int,
    multipliers: tuple[int, ...],
    blocks: int,
    attention: tuple[int, ...],
    dropout: float,
    dtype: str,
) -> unet.UNet:
    """Raises ValueError for numbers out of range, and for images that cannot be halved so often."""
    settings.at_least(1, "model", channels=channels, blocks=blocks)
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"model.dropout is {dropout}; it must be at least 0 and below 1")
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"model.multipliers is {multipliers}; it must be one or more of 1, 2, ...")
    unet.check_size(*shape[:2], len(multipliers))
    heights = [shape[0] // 2**i for i in range(len(multipliers))]
    if not set(layout.remat) <= set(heights):
        raise ValueError(f"parallel.remat is {layout.remat}; this network's heights are {heights}")
    return unet.UNet(
        out_channels=shape[-1] * (2 if learned_variance else 1),
        channels=channels,
        multipliers=tuple(multipliers),
        blocks=blocks,
        attention=tuple(attention),
        dropout=dropout,
        dtype=compute_dtype(dtype, layout.mesh.devices.flat[0].platform),
        remat=layout.remat,
    )


def compute_dtype(name: str, platform: str):
    """bfloat16 convolutions are slow on CPUs, so "auto" keeps them to accelerators."""
    if name == "auto":
        return jnp.float32 if platform == "cpu" else jnp.bfloat16
    return settings.choice("model.dtype", name, DTYPES)


def schedule_of(name: str, **fields: Any) -> Schedule:
    made = settings.choice("diffusion.schedule.name", name, SCHEDULES)
    return settings.section(made, "diffusion.schedule", fields)
