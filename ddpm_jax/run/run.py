"""The types of a validated run, which every program takes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Int

from ddpm_jax.datasets import own, source
from ddpm_jax.distributed.mesh import Layout
from ddpm_jax.losses.bound import Strata
from ddpm_jax.metrics.metric import Metric
from ddpm_jax.run.model import Model
from ddpm_jax.samplers import guidance, steps


class Guide(NamedTuple):
    """A classifier from another run that guides this run's samples."""

    model: Model
    params: Any  # its EMA parameters, a pytree


ALL = -1  # the value of sample.label that stands for every class


class Chain(NamedTuple):
    """A sampler, the times it visits, its conditioning, and its name in file names."""

    sampler: steps.Sampler
    times: Int[np.ndarray, " n"]  # from T down to 0
    name: str
    classifier_guidance: guidance.ClassifierGuidance = guidance.shift_score
    takes_labels: bool = True  # False: the solver runs image by image, without labels
    guidance: float = 0.0  # the guidance scale w, of a classifier or classifier-free; 0: none
    label: int = ALL  # the class of every image; ALL: image i is of class i modulo their number
    label_name: str = ""  # of that class
    guide: Guide | None = None  # None: no classifier


class Grid(NamedTuple):
    """The sample grids that training draws."""

    chain: Chain
    count: int  # images  # pyright: ignore[reportIncompatibleMethodOverride]


class Train(NamedTuple):
    """The train section of a config. Every interval is in steps, and 0 turns it off."""

    steps: int
    batch_size: int  # images over all devices
    clip: float  # the largest global norm of a gradient
    clip_groups: int  # equal parts of a batch whose gradients are clipped separately
    label_dropout: float  # the fraction of labels hidden, for classifier-free guidance
    on_nonfinite: str  # "stop" or "skip" at a step whose loss or gradient is not finite
    log_every: int  # at least 1
    checkpoint_every: int  # at least 1
    checkpoint_minutes: float  # since the last checkpoint; 0 turns it off
    sample_every: int
    keep: int  # newest checkpoints
    keep_every: int  # checkpoints at these steps are kept too
    keep_best: str  # "loss" also keeps the checkpoint with the lowest one; "" does not
    tracker: str  # "wandb" for Weights & Biases; "" for none
    grid: Grid


class Sample(NamedTuple):
    """The sample section of a config."""

    chain: Chain
    count: int  # images  # pyright: ignore[reportIncompatibleMethodOverride]
    batch_size: int  # images over all devices
    seed: int
    classifier: str  # the folder of the run whose classifier guides; "" for no classifier


class Quality(NamedTuple):
    """How sample quality is measured: the section eval.quality of a config."""

    samples: int  # images; 0 skips the measurement
    path: str  # a .npz, .npy or folder of images; "" measures the run's own samples
    space: str  # the feature space: "inception", "classifier" or "pixels"
    inception: str  # the file of Inception's weights, for that space
    reference: str  # a file with the training set's statistics; "" computes them
    metrics: tuple[Metric, ...] = ()  # the user's own, beside ours


class Eval(NamedTuple):
    """The eval section of a config."""

    images: int  # held-out images whose bound is computed
    train_images: int  # training images whose bound is computed
    strata: Strata
    batch_size: int  # images over all devices
    seed: int
    best: str  # the metric by which --follow keeps a checkpoint; "" chooses one
    quality: Quality


class Run(NamedTuple):
    """Everything that a program needs: a config, validated and built."""

    directory: epath.Path  # --workdir
    checkpoints: epath.Path
    config: dict  # as config.json stores it
    seed: int  # of the initial parameters and of training's randomness
    layout: Layout
    data: source.Data | source.Folder | own.Own
    model: Model
    optimizer: optax.GradientTransformation
    train: Train
    sample: Sample
    eval: Eval
    name: str = ""  # the config file's, for display
    weights: str = "ema"  # or "raw": which parameters of a checkpoint programs read
    step: int | None = None  # the checkpoint that they read; None: the newest intact one
    trust: bool = False  # whether user code that stored runs name may be used as it is now

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the network's classes; None if the run is of a version that stored none."""
        return self.data.expected.labels if self.data.expected else ()

    @property
    def mesh(self) -> Mesh:
        return self.layout.mesh

    @property
    def prefix(self) -> str:
        """Begins the names of files that are made from raw weights, so that none passes for the EMA's."""
        return "" if self.weights == "ema" else f"{self.weights}-"


def rounding(run: Run) -> tuple[str, int, str]:
    """Returns what changes only the last digits of a run's numbers: dtype, device count and backend."""
    return jnp.dtype(run.model.network.dtype).name, run.mesh.size, jax.default_backend()


def title(run: Run, what: str, step: int, sampler: str | list[str]) -> str:
    """Returns the title of a figure of a run: what it shows, the run's name, the step, weights and sampler."""
    parts = [what, run.directory.name or run.name, f"step {step:,}"]
    parts += [f"{run.weights} weights"] if run.weights != "ema" else []
    return " · ".join([*parts, sampler] if isinstance(sampler, str) else parts)
