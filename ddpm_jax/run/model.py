"""A model: its schedule, its parameterization, its network, and the denoiser that they make."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Key

from ddpm_jax import parameterization
from ddpm_jax.diffusion import Images, Schedule
from ddpm_jax.losses.objective import Objective
from ddpm_jax.losses.timesteps import Timesteps
from ddpm_jax.networks.conditioning import Given, Labels
from ddpm_jax.parameterization import Denoiser, Network, Parameterization, Variance
from ddpm_jax.samplers import guidance

ImageKind = tuple[tuple[int, int, int], int]  # shape, and the number of grey levels


class Model(NamedTuple):
    """The schedule, network and parameterization of a run.

    'network' is any module that is called (x, time, train, given) and has the fields 'dtype', 'remat'
    and 'classes'; where 'classes' is not 0 it reads given.labels.
    """

    sched: Schedule
    parameterization: Parameterization
    variance: Variance
    objective: Objective
    timesteps: Timesteps
    network: nn.Module
    shape: tuple[int, int, int]
    levels: int
    classifies: bool  # the network outputs log p(label | x_t), so no samples are drawn from it


def network(
    model: Model,
    params: Any,
    dropout: Key[Array, ""] | None = None,
    labels: Labels | None = None,
) -> Network:
    """Returns the network as a function of x_t and t; the parameterization says what it is fed for t.

    A key for dropout puts it in training. A network with classes needs a label per image.
    """
    rngs = {} if dropout is None else {"dropout": dropout}

    def predict(x_t: Images, t):
        assert labels is None or len(labels) in (1, len(x_t)), "labels of other images"
        time = model.parameterization.time(model.sched, t)
        train, given = dropout is not None, Given(labels=labels)
        return model.network.apply({"params": params}, x_t, time, train, given, rngs=rngs)

    return predict


def denoiser(model: Model, params: Any, labels: Labels | None = None, w: float = 0.0) -> Denoiser:
    """Applies network, parameterization, classifier-free guidance of weight w, clip: in this order."""
    return parameterization.clip(unclipped_denoiser(model, params, labels, w))


def unclipped_denoiser(
    model: Model, params: Any, labels: Labels | None = None, w: float = 0.0
) -> Denoiser:
    """Returns the denoiser without its clip, smooth in x_t, as solving an ODE both ways needs it."""

    def denoiser_of(labels: Labels | None) -> Denoiser:
        predict = network(model, params, labels=labels)
        return parameterization.denoiser(model.parameterization, model.sched, predict)

    if not w:
        return denoiser_of(labels)
    no_label = jnp.full_like(labels, model.network.classes)
    return guidance.classifier_free(w, denoiser_of(labels), denoiser_of(no_label))


def initial(model: Model, key: Key[Array, ""]) -> Any:
    """Returns initial parameters. Jit it: eager initialisation takes tens of seconds."""
    x, t = jnp.zeros((1, *model.shape)), jnp.zeros((1,), jnp.int32)
    labels = jnp.zeros((1,), jnp.int32) if model.network.classes else None
    return model.network.init(key, x, t, False, Given(labels=labels))["params"]
