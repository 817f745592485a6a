"""Config sections to objects: what a run is made of. ConfigDict ends here.

Every check that needs no running is made here, and speaks of a field by the name the user knows.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from ddpm_jax import (
    classifier,
    data_settings,
    guidance,
    label_settings,
    model_settings,
    optimizer,
    parallel,
    parameterization,
    settings,
    solver_settings,
    unet,
    workdir,
)
from ddpm_jax.diffusion import Images, Schedule
from ddpm_jax.objective import Objective
from ddpm_jax.parallel import Layout
from ddpm_jax.parameterization import Denoiser, Network, Parameterization, Variance
from ddpm_jax.timesteps import Timesteps
from ddpm_jax.unet import Labels

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


class Run(NamedTuple):
    directory: epath.Path
    checkpoints: epath.Path
    config: dict
    seed: int
    layout: Layout
    data: data_settings.Data | data_settings.Folder
    model: Model
    optimizer: optax.GradientTransformation
    train: settings.Train
    sample: settings.Sample
    eval: settings.Eval

    @property
    def mesh(self) -> Mesh:
        return self.layout.mesh


def run(
    config: ConfigDict,
    directory: epath.Path,
    present: Sequence[jax.Device] | None = None,
    of_images: ImageKind | None = None,
) -> Run:
    """Everything a program needs. Raises ValueError for what the config gets wrong.

    'present' are the devices there are, if not those that jax sees; 'of_images' spares the data set.
    """
    section, sections = settings.section, config.to_dict()
    check_sections(sections)
    settings.check_seed("seed", sections["seed"])
    # What needs no data set comes first: preparing one may take long.
    layout = section(parallel.layout, "parallel", sections["parallel"], present)
    mesh = layout.mesh
    data = data_settings.of(sections["data"])
    diffused = section(model_settings.diffusion_of, "diffusion", sections["diffusion"])
    sampled = dict(sections["sample"])
    langevin = section(solver_settings.langevin, "sample.langevin", sampled.pop("langevin", {}))
    chain_of = partial(solver_settings.chain, *diffused[:3], how=langevin)
    optimize = section(optimizer.adam, "optimizer", sections["optimizer"])
    train = section(settings.train, "train", sections["train"], layout, chain_of)
    sample = section(settings.sample, "sample", sampled, mesh, chain_of)
    evaluation = section(settings.evaluation, "eval", sections["eval"], mesh, diffused.sched)
    shape, levels = of_images or images(data, directory)
    network = section(
        model_settings.network_of, "model", sections["model"], shape, diffused, layout
    )
    sample = label_settings.checked(sample, train, network.classes)
    if diffused.classifies:
        label_settings.check_classifier(network.classes, train, evaluation)
    losses = diffused.objective(levels), diffused.timesteps
    model = Model(*diffused[:3], *losses, network, shape, levels)
    seed = sections["seed"]
    checkpoints = directory / "checkpoints"
    programs = train, sample, evaluation
    return Run(directory, checkpoints, sections, seed, layout, data, model, optimize, *programs)


def check_sections(sections: dict) -> None:
    missing = [name for name in SECTIONS if name not in sections]
    if missing:
        raise ValueError(f"the config has no section {', '.join(missing)}")


def images(data: data_settings.Data | data_settings.Folder, directory: epath.Path) -> ImageKind:
    """Shape and grey levels: the run's own record of them, else the data set's."""
    record = workdir.stored(directory)
    if record is not None:
        return tuple(record["images"]["shape"]), record["images"]["levels"]
    source = data.open(data.split)
    return source.shape, source.levels


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


def rounding(run: Run) -> tuple[str, int, str]:
    """What may differ between two starts of a run and changes the last digits of its numbers."""
    return jnp.dtype(run.model.unet.dtype).name, run.mesh.size, jax.default_backend()
