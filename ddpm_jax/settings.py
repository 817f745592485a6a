"""The sections of a config that are settings, checked: how long, how often, how many.

A section is the keyword arguments of one function here; a message names a field as users know it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from jax.sharding import Mesh

from ddpm_jax import guidance, likelihood, parallel, sampling, workdir
from ddpm_jax.diffusion import Schedule
from ddpm_jax.likelihood import Strata
from ddpm_jax.parallel import Layout

ALL = -1
SPACES = {"inception": None, "classifier": None, "pixels": None}


class Chain(NamedTuple):
    """A sampler, the times it visits, and its name in file names."""

    sampler: sampling.Sampler
    times: sampling.Path
    name: str
    toward: guidance.Towards = guidance.by_score  # how the sampler takes a classifier's guidance
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
    classifier: str  # the folder of a run that guides; "" is none


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


def section(function: Callable, name: str, fields: Mapping[str, Any], *args) -> Any:
    """Calls 'function' with a section's fields.

    Raises ValueError for a field too few or too many, or of another type than 'function' declares.
    """
    try:
        inspect.signature(function).bind(*args, **fields)
    except TypeError as error:
        raise ValueError(f"config section {name}: {error}") from error
    declared = get_type_hints(function)
    for field, value in fields.items():
        if field in declared:
            check_type(f"{name}.{field}", value, declared[field])
    return function(*args, **fields)


def check_type(field: str, value: Any, declared: Any) -> None:
    """Raises ValueError unless a value is what was declared; 1e5 is no int, True no number."""
    if get_origin(declared) is tuple:
        items = value if isinstance(value, tuple | list) else [None]
        fits = all(type(item) is get_args(declared)[0] for item in items)
    else:
        fits = type(value) is declared or (declared is float and type(value) is int)
    if not fits and (get_origin(declared) is tuple or declared in (bool, int, float, str)):
        wanted = "a tuple of int" if get_origin(declared) is tuple else declared.__name__
        raise ValueError(f"{field} is {value!r}; it must be {wanted}")


def choice(field: str, name: str, choices: Mapping[str, Any]) -> Any:
    if name not in choices:
        raise ValueError(f"{field} is {name!r}; {workdir.nearest(name, choices)}")
    return choices[name]


def at_least(lowest: int, section: str, **fields: int) -> None:
    for name, value in fields.items():
        if value < lowest:
            raise ValueError(f"{section}.{name} is {value}; it must be at least {lowest}")


def check_seed(field: str, seed: int) -> None:
    check_type(field, seed, int)
    if not 0 <= seed < 2**31:
        raise ValueError(f"{field} is {seed}; it must lie between 0 and 2^31 - 1")


def sample_grid(
    chain_of: Callable[..., Chain], *, solver: str, steps: int, eta: float, count: int
) -> Grid:
    at_least(1, "train.grid", count=count)
    return Grid(chain_of("train.grid", solver, steps, eta), count)


def train(
    layout: Layout, chain_of: Callable[..., Chain], *, grid: Mapping[str, Any], **fields: Any
) -> Train:
    """Raises ValueError for a number that is out of range or a batch that cannot be shared out."""
    grid_ = section(sample_grid, "train.grid", grid, chain_of)
    chosen = section(Train, "train", fields | {"grid": grid_})
    parallel.check_batch(layout.mesh, chosen.batch_size, "train.batch_size")
    at_least(0, "train", **fields_of(chosen, "steps", "sample_every", "keep_every"))
    at_least(
        1, "train", **fields_of(chosen, "clip_groups", "log_every", "checkpoint_every", "keep")
    )
    if not chosen.clip > 0.0:
        raise ValueError(f"train.clip is {chosen.clip}; it must be above 0")
    if not 0.0 <= chosen.label_dropout < 1.0:
        raise ValueError(
            f"train.label_dropout is {chosen.label_dropout}; it must be at least 0 and below 1"
        )
    if chosen.batch_size % chosen.clip_groups:
        raise ValueError(
            f"train.batch_size is {chosen.batch_size}, which train.clip_groups"
            f" {chosen.clip_groups} does not divide"
        )
    at_a_time = chosen.batch_size // chosen.clip_groups
    if at_a_time % layout.accumulation:
        raise ValueError(
            f"parallel.accumulation is {layout.accumulation}, which does not divide the {at_a_time}"
            " images whose gradient is clipped together (train.batch_size / train.clip_groups)"
        )
    choice("train.keep_best", chosen.keep_best, {"": None, "loss": None})
    choice("train.on_nonfinite", chosen.on_nonfinite, {"stop": None, "skip": None})
    return chosen


def fields_of(chosen: Train, *names: str) -> dict[str, int]:
    return {name: getattr(chosen, name) for name in names}


def sample(
    mesh: Mesh,
    chain_of: Callable[..., Chain],
    *,
    solver: str,
    steps: int,
    eta: float,
    spacing: str,
    count: int,
    batch_size: int,
    seed: int,
    guidance: float,
    label: int,
    classifier: str,
) -> Sample:
    at_least(1, "sample", count=count)
    check_seed("sample.seed", seed)
    parallel.check_batch(mesh, batch_size, "sample.batch_size")
    if not -1.0 <= guidance < float("inf"):
        raise ValueError(f"sample.guidance is {guidance}; it must be -1 or more, and 0 is none")
    chain = chain_of("sample", solver, steps, eta, spacing)
    chain = chain._replace(guidance=guidance, label=label)
    return Sample(chain, count, batch_size, seed, classifier)


def of_samples(**fields: Any) -> Quality:
    chosen = section(Quality, "eval.quality", fields)
    at_least(0, "eval.quality", samples=chosen.samples)
    if 0 < chosen.samples < 4:  # precision and recall look at third neighbours
        raise ValueError(f"eval.quality.samples is {chosen.samples}; it must be 0, or 4 or more")
    choice("eval.quality.space", chosen.space, SPACES)
    return chosen


def evaluation(
    mesh: Mesh,
    sched: Schedule,
    *,
    images: int,
    train_images: int,
    steps: int,
    batch_size: int,
    seed: int,
    best: str,
    quality: Mapping[str, Any],
) -> Eval:
    at_least(0, "eval", images=images, train_images=train_images)
    check_seed("eval.seed", seed)
    parallel.check_batch(mesh, batch_size, "eval.batch_size")
    strata, samples = likelihood.strata(sched.T, steps), of_samples(**quality)
    return Eval(images, train_images, strata, batch_size, seed, best, samples)
