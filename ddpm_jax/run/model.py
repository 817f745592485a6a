"""A model: its schedule, parameterization and network, and the denoiser that they make."""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Key

from ddpm_jax import parameterization
from ddpm_jax.diffusion import Images, Schedule, Times
from ddpm_jax.losses.objective import Objective
from ddpm_jax.losses.timesteps import Timesteps
from ddpm_jax.networks.conditioning import Given, Labels
from ddpm_jax.parameterization import Denoiser, Network, Parameterization, Variance
from ddpm_jax.samplers import guidance

ImageKind = tuple[tuple[int, int, int], int]  # (height, width, channels), number of grey levels


class Model(NamedTuple):
    """The schedule, network and parameterization of a run.

    'network' is any module called as (x, time, train, given) with the fields 'dtype', 'remat' and
    'classes'. If 'classes' is not 0, the network reads given.labels.
    """

    sched: Schedule
    parameterization: Parameterization
    variance: Variance
    objective: Objective  # one of losses/objective.py
    timesteps: Timesteps
    network: nn.Module
    shape: tuple[int, int, int]  # height, width, channels
    levels: int  # grey levels of the data
    classifies: bool  # the network outputs log p(label | x_t), so no samples are drawn from it


def network(
    model: Model,
    params: Any,
    dropout: Key[Array, ""] | None = None,
    labels: Labels | None = None,
) -> Network:
    """Returns the network as a function of x_t and t, with the parameterization's time input.

    A dropout key selects training mode. A network with classes needs a label per image.
    """
    rngs = {} if dropout is None else {"dropout": dropout}

    def predict(x_t: Images, t: Times) -> Array:
        assert labels is None or len(labels) in (1, len(x_t)), "labels of other images"
        time = model.parameterization.time(model.sched, t)
        train, given = dropout is not None, Given(labels=labels)
        output = model.network.apply({"params": params}, x_t, time, train, given, rngs=rngs)
        return cast(Array, output)

    return predict


def denoiser(model: Model, params: Any, labels: Labels | None = None, w: float = 0.0) -> Denoiser:
    """Chains network, parameterization, classifier-free guidance of scale w and clip, in this order."""
    return parameterization.clip(unclipped_denoiser(model, params, labels, w))


def unclipped_denoiser(
    model: Model, params: Any, labels: Labels | None = None, w: float = 0.0
) -> Denoiser:
    """Returns the denoiser without its clip: smooth in x_t, so that an ODE can be solved both ways."""

    def condition(labels: Labels | None) -> Denoiser:
        predict = network(model, params, labels=labels)
        return parameterization.denoiser(model.parameterization, model.sched, predict)

    if not w:
        return condition(labels)
    assert labels is not None, "classifier-free guidance needs labels"
    no_label = jnp.full_like(labels, model.network.classes)
    return guidance.classifier_free(w, condition(labels), condition(no_label))


def initial(model: Model, key: Key[Array, ""]) -> Any:
    """Returns initial parameters. Call it under jit: eager initialisation takes tens of seconds."""
    x, t = jnp.zeros((1, *model.shape)), jnp.zeros((1,), jnp.int32)
    labels = jnp.zeros((1,), jnp.int32) if model.network.classes else None
    return model.network.init(key, x, t, False, Given(labels=labels))["params"]
