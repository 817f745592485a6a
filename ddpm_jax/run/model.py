"""A model: its schedule, its parameterization, its network, and the denoiser they make."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Key

from ddpm_jax import parameterization
from ddpm_jax.diffusion import Images, Schedule
from ddpm_jax.losses.objective import Objective
from ddpm_jax.losses.timesteps import Timesteps
from ddpm_jax.networks import classifier, unet
from ddpm_jax.networks.unet import Labels
from ddpm_jax.parameterization import Denoiser, Network, Parameterization, Variance
from ddpm_jax.samplers import guidance

ImageKind = tuple[tuple[int, int, int], int]  # shape, and the number of grey levels


class Model(NamedTuple):
    """What was diffused, and how the network speaks of it."""

    sched: Schedule
    parameterization: Parameterization
    variance: Variance
    objective: Objective
    timesteps: Timesteps
    unet: unet.UNet | classifier.Classifier
    shape: tuple[int, int, int]
    levels: int

    @property
    def classifies(self) -> bool:
        """Whether the network tells what is on an image, so that none are drawn from it."""
        return isinstance(self.unet, classifier.Classifier)


def network(
    model: Model,
    params: Any,
    dropout: Key[Array, ""] | None = None,
    labels: Labels | None = None,
) -> Network:
    """The network as a function of x_t and t = 1..T; it itself is fed t - 1, as the release's is.

    A key for dropout puts it in training. One that has classes needs a label per image.
    """
    of_class = () if labels is None else (labels,)
    rngs = {} if dropout is None else {"dropout": dropout}

    def predict(x_t: Images, t):
        assert labels is None or len(labels) in (1, len(x_t)), "labels of other images"
        return model.unet.apply(
            {"params": params}, x_t, t - 1, dropout is not None, *of_class, rngs=rngs
        )

    return predict


def denoiser(model: Model, params: Any, labels: Labels | None = None, w: float = 0.0) -> Denoiser:
    """Network, parameterization, classifier-free guidance of weight w, clip: in this order."""
    return parameterization.clip(unclipped(model, params, labels, w))


def unclipped(model: Model, params: Any, labels: Labels | None = None, w: float = 0.0) -> Denoiser:
    """The same without the clip, smooth in x_t: for what goes along an ODE both ways."""

    def reading(labels: Labels | None) -> Denoiser:
        network_ = network(model, params, labels=labels)
        return parameterization.denoiser(model.parameterization, model.sched, network_)

    if not w:
        return reading(labels)
    of_any = reading(jnp.full_like(labels, model.unet.classes))
    return guidance.classifier_free(w, reading(labels), of_any)


def initial(model: Model, key: Key[Array, ""]) -> Any:
    """Initial parameters; jit it, for eager initialisation takes tens of seconds."""
    x, t = jnp.zeros((1, *model.shape)), jnp.zeros((1,), jnp.int32)
    labels = jnp.zeros((1,), jnp.int32) if model.unet.classes else None
    return model.unet.init(key, x, t, labels=labels)["params"]
