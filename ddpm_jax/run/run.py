"""The types of a run, checked and ready: what every program takes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from etils import epath
from jax.sharding import Mesh

from ddpm_jax.datasets import source
from ddpm_jax.distributed.mesh import Layout
from ddpm_jax.losses.bound import Strata
from ddpm_jax.run.model import Model
from ddpm_jax.samplers import guidance, spacing, steps


class Guide(NamedTuple):
    """The classifier of another run, which guides this one's samples."""

    model: Model
    params: Any


ALL = -1


class Chain(NamedTuple):
    """A sampler, the times it visits, and its name in file names."""

    sampler: steps.Sampler
    times: spacing.Path
    name: str
    classifier_guidance: guidance.ClassifierGuidance = guidance.shift_score
    takes_labels: bool = True
    guidance: float = 0.0  # its weight, with a classifier or without one
    label: int = ALL  # whose images are made; ALL: image i is of class i modulo their number
    guide: Any = None  # the classifier, a draws.Guide


class Grid(NamedTuple):
    """The sample grids of training."""

    chain: Chain
    count: int


class Train(NamedTuple):
    steps: int
    batch_size: int  # global
    clip: float
    clip_groups: int
    label_dropout: float  # the part of the labels that training hides, for classifier-free guidance
    on_nonfinite: str  # "stop" or "skip" at a step whose loss or gradient is not finite
    log_every: int
    checkpoint_every: int
    sample_every: int
    keep: int
    keep_every: int
    keep_best: str
    grid: Grid


class Sample(NamedTuple):
    chain: Chain
    count: int
    batch_size: int
    seed: int
    classifier: str  # the folder of a run that guides; "" for no guidance


class Quality(NamedTuple):
    """What is said about samples."""

    samples: int  # 0: nothing
    path: str  # a .npz, .npy or folder of images; "" is the run's own samples
    space: str  # of features
    inception: str  # Inception's weights, where that is the space
    reference: str  # statistics of the training images made elsewhere; "" computes them


class Eval(NamedTuple):
    images: int  # held out; 0: no bound on them
    train_images: int
    strata: Strata
    batch_size: int
    seed: int
    best: str  # the number by which --follow keeps a checkpoint; "" chooses
    quality: Quality


class Run(NamedTuple):
    directory: epath.Path
    checkpoints: epath.Path
    config: dict
    seed: int
    layout: Layout
    data: source.Data | source.Folder
    model: Model
    optimizer: optax.GradientTransformation
    train: Train
    sample: Sample
    eval: Eval
    name: str = ""  # the config's, for people

    @property
    def mesh(self) -> Mesh:
        return self.layout.mesh


def rounding(run: Run) -> tuple[str, int, str]:
    """What may differ between two starts of a run and changes the last digits of its numbers."""
    return jnp.dtype(run.model.network.dtype).name, run.mesh.size, jax.default_backend()
