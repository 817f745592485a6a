"""Config sections to objects: what a run is made of. ConfigDict ends here.

Every check that needs no running is made here, and speaks of a field by the name the user knows.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key
from ml_collections import ConfigDict

from ddpm_jax import (
    data_settings,
    diffusion,
    objective,
    optimizer,
    parallel,
    parameterization,
    sampling,
    settings,
    unet,
    workdir,
)
from ddpm_jax.diffusion import Images, Schedule
from ddpm_jax.objective import Objective
from ddpm_jax.parameterization import Denoiser, Network, Parameterization, Variance

SCHEDULES = {f.__name__: f for f in (diffusion.linear, diffusion.quadratic, diffusion.constant)}
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


SECTIONS = (
    "seed",
    "data",
    "model",
    "diffusion",
    "optimizer",
    "train",
    "parallel",
    "sample",
    "eval",
)


class Diffusion(NamedTuple):
    sched: Schedule
    parameterization: Parameterization
    variance: Variance
    objective: Callable[[int], Objective]  # of the number of grey levels


class Model(NamedTuple):
    """What was diffused, and how the network speaks of it."""

    sched: Schedule
    parameterization: Parameterization
    variance: Variance
    objective: Objective
    unet: unet.UNet
    shape: tuple[int, int, int]
    levels: int


class Run(NamedTuple):
    directory: epath.Path
    checkpoints: epath.Path
    config: dict
    seed: int
    mesh: Mesh
    data: data_settings.Data | data_settings.Folder
    model: Model
    optimizer: optax.GradientTransformation
    train: settings.Train
    sample: settings.Sample
    eval: settings.Eval


def run(config: ConfigDict, directory: epath.Path) -> Run:
    """Everything a program needs. Raises ValueError for what the config gets wrong."""
    section, sections = settings.section, config.to_dict()
    missing = [name for name in SECTIONS if name not in sections]
    if missing:
        raise ValueError(f"the config has no section {', '.join(missing)}")
    settings.check_seed("seed", sections["seed"])
    # What needs no data set comes first: preparing one may take long.
    mesh = section(parallel.mesh, "parallel", sections["parallel"])
    data = data_settings.of(sections["data"])
    diffused = section(diffusion_of, "diffusion", sections["diffusion"])
    chain_of = partial(settings.chain, *diffused[:3])
    optimize = section(optimizer.adam, "optimizer", sections["optimizer"])
    train = section(settings.train, "train", sections["train"], mesh, chain_of)
    sample = section(settings.sample, "sample", sections["sample"], mesh, chain_of)
    evaluation = section(settings.evaluation, "eval", sections["eval"], mesh, diffused.sched)
    shape, levels = images(data, directory)
    is_learned = diffused.variance is parameterization.learned
    network = section(unet_of, "model", sections["model"], shape, is_learned)
    model = Model(*diffused[:3], diffused.objective(levels), network, shape, levels)
    seed = sections["seed"]
    checkpoints = directory / "checkpoints"
    programs = train, sample, evaluation
    return Run(directory, checkpoints, sections, seed, mesh, data, model, optimize, *programs)


def images(
    data: data_settings.Data | data_settings.Folder, directory: epath.Path
) -> tuple[tuple[int, int, int], int]:
    """Shape and grey levels: the run's own record of them, else the data set's."""
    record = workdir.stored(directory)
    if record is not None:
        return tuple(record["images"]["shape"]), record["images"]["levels"]
    source = data.open(data.split)
    return source.shape, source.levels


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
    return unet.UNet(
        out_channels=shape[-1] * (2 if learned_variance else 1),
        channels=channels,
        multipliers=tuple(multipliers),
        blocks=blocks,
        attention=tuple(attention),
        dropout=dropout,
        dtype=compute_dtype(dtype),
    )


def compute_dtype(name: str):
    """bfloat16 convolutions are slow on CPUs, so "auto" keeps them to accelerators."""
    if name == "auto":
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return settings.choice("model.dtype", name, DTYPES)


def schedule_of(name: str, **fields: Any) -> Schedule:
    made = settings.choice("diffusion.schedule.name", name, SCHEDULES)
    return settings.section(made, "diffusion.schedule", fields)


def network(model: Model, params: Any, dropout: Key[Array, ""] | None = None) -> Network:
    """The network as a function of x_t and t = 1..T; it itself is fed t - 1, as the release's is.

    A key for dropout puts it in training.
    """
    rngs = {} if dropout is None else {"dropout": dropout}

    def predict(x_t: Images, t):
        return model.unet.apply({"params": params}, x_t, t - 1, dropout is not None, rngs=rngs)

    return predict


def denoiser(model: Model, params: Any) -> Denoiser:
    """Network, parameterization, clip: in this order (guidance comes before the clip)."""
    reading = parameterization.denoiser(model.parameterization, model.sched, network(model, params))
    return parameterization.clip(reading)


def initial(model: Model, key: Key[Array, ""]) -> Any:
    """Initial parameters; jit it, for eager initialisation takes tens of seconds."""
    x, t = jnp.zeros((1, *model.shape)), jnp.zeros((1,), jnp.int32)
    return model.unet.init(key, x, t)["params"]


def sampling_program(model: Model, chain: settings.Chain) -> sampling.Program:
    def of_params(params: Any) -> Denoiser:
        return denoiser(model, params)

    return sampling.program(model.sched, chain.sampler, of_params, chain.times, model.shape)


def image_keys(run: Run, seed: int, first: int, count: int) -> Key[Array, " count"]:
    """The keys of the images first..first + count - 1, spread over the mesh."""
    return keys_of(run, seed, np.arange(first, first + count))


def keys_of(run: Run, seed: int, numbers: Int[np.ndarray, " n"]) -> Key[Array, " n"]:
    """The keys of any images, spread over the mesh; those with one number share their noise."""

    def made(numbers):
        return sampling.image_keys(jax.random.key(seed), numbers)

    return jax.jit(made, out_shardings=parallel.by_image(run.mesh))(numbers)


def rounding(run: Run) -> tuple[str, int, str]:
    """What may differ between two starts of a run and changes the last digits of its numbers."""
    return jnp.dtype(run.model.unet.dtype).name, run.mesh.size, jax.default_backend()
