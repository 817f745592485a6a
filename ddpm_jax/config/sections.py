"""The train, sample and eval sections of a config.

A section is the keyword arguments of one function. Messages name fields as users write them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import Mesh

from ddpm_jax.config import validate
from ddpm_jax.diffusion import Schedule
from ddpm_jax.distributed import mesh as meshes
from ddpm_jax.distributed.mesh import Layout
from ddpm_jax.losses import bound
from ddpm_jax.metrics.metric import Metric
from ddpm_jax.run.run import Chain, Eval, Grid, Quality, Sample, Train
from ddpm_jax.runtime import paths, user_code

SPACES = {"inception": None, "classifier": None, "pixels": None}
KEEP_BEST = {"": None, "loss": None}
ON_NONFINITE = {"stop": None, "skip": None}
TRACKERS = {"": None, "wandb": None}


def sample_grid(
    build_chain: Callable[..., Chain], *, solver: str, steps: int, eta: float, count: int
) -> Grid:
    """Returns the section train.grid. Raises ValueError for a number out of range."""
    validate.at_least(1, "train.grid", count=count)
    return Grid(chain=build_chain("train.grid", solver, steps, eta), count=count)


def train(
    layout: Layout, build_chain: Callable[..., Chain], *, grid: Mapping[str, Any], **fields: Any
) -> Train:
    """Returns the train section; 'fields' are those of run.Train.

    Raises ValueError for a number out of range or an indivisible batch.
    """
    grid_ = validate.section(sample_grid, "train.grid", grid, build_chain)
    chosen: Train = validate.section(Train, "train", fields | {"grid": grid_})
    meshes.check_batch(layout.mesh, chosen.batch_size, "train.batch_size")
    validate.at_least(
        0,
        "train",
        steps=chosen.steps,
        sample_every=chosen.sample_every,
        keep_every=chosen.keep_every,
        checkpoint_minutes=chosen.checkpoint_minutes,
    )
    validate.at_least(
        1,
        "train",
        clip_groups=chosen.clip_groups,
        log_every=chosen.log_every,
        checkpoint_every=chosen.checkpoint_every,
        keep=chosen.keep,
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
    group = chosen.batch_size // chosen.clip_groups
    if group % layout.accumulation:
        raise ValueError(
            f"parallel.accumulation is {layout.accumulation}, which does not divide the {group}"
            " images whose gradient is clipped together (train.batch_size / train.clip_groups)"
        )
    validate.choice("train.keep_best", chosen.keep_best, KEEP_BEST)
    validate.choice("train.on_nonfinite", chosen.on_nonfinite, ON_NONFINITE)
    validate.choice("train.tracker", chosen.tracker, TRACKERS)
    return chosen


def sample(
    mesh: Mesh,
    build_chain: Callable[..., Chain],
    *,
    solver: str,
    steps: int,
    eta: float,
    spacing: str,
    count: int,
    batch_size: int,
    seed: int,
    guidance: float,
    label: int | str,
    classifier: str,
) -> Sample:
    """Returns the sample section without sample.langevin. Raises ValueError for a number out of range."""
    validate.at_least(1, "sample", count=count)
    validate.check_seed("sample.seed", seed)
    meshes.check_batch(mesh, batch_size, "sample.batch_size")
    if not -1.0 <= guidance < float("inf"):
        raise ValueError(
            f"sample.guidance is {guidance}; it must be -1 or more, and 0 turns it off"
        )
    if type(label) not in (int, str):
        raise ValueError(f"sample.label is {label!r}; it must be a label's number or name")
    chain = build_chain("sample", solver, steps, eta, spacing)
    # A name becomes a number in config/labels.py, where the names are known.
    conditioned = {"label_name": label} if isinstance(label, str) else {"label": label}
    return Sample(
        chain=chain._replace(guidance=guidance, **conditioned),
        count=count,
        batch_size=batch_size,
        seed=seed,
        classifier=str(paths.user_path(classifier)) if classifier else "",
    )


def own_metric(name: str) -> Metric:
    """Returns a metric of the user's own. Raises ValueError for anything else."""
    field = "eval.quality.metrics"
    metric = validate.check_kind(f"{field} {name} is", user_code.load(field, name), Metric)
    if not re.fullmatch(r"\w+", metric.name, re.ASCII):
        raise ValueError(
            f"{field} {name} has the name {metric.name!r}; it must be of letters, digits and _"
        )
    return metric


def quality_section(*, metrics: tuple[str, ...], **fields: Any) -> Quality:
    """Returns the section eval.quality. Raises ValueError for an unknown space or too few samples."""
    own = tuple(own_metric(name) for name in metrics)
    chosen: Quality = validate.section(Quality, "eval.quality", fields | {"metrics": own})
    typed = {name: getattr(chosen, name) for name in ("path", "reference", "inception")}
    chosen = chosen._replace(
        **{name: str(paths.user_path(path)) for name, path in typed.items() if path}
    )
    validate.at_least(0, "eval.quality", samples=chosen.samples)
    if 0 < chosen.samples < 4:  # precision and recall use third neighbours
        raise ValueError(f"eval.quality.samples is {chosen.samples}; it must be 0, or 4 or more")
    validate.choice("eval.quality.space", chosen.space, SPACES)
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
    """Returns the eval section. Raises ValueError for a number out of range."""
    validate.at_least(0, "eval", images=images, train_images=train_images)
    validate.check_seed("eval.seed", seed)
    meshes.check_batch(mesh, batch_size, "eval.batch_size")
    return Eval(
        images=images,
        train_images=train_images,
        strata=bound.strata(sched.T, steps),
        batch_size=batch_size,
        seed=seed,
        best=best,
        quality=validate.section(quality_section, "eval.quality", quality),
    )
