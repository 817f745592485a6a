"""The train, sample and eval sections of a config, checked.

A section is the keyword arguments of one function; a message names a field as users know it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import Mesh

from ddpm_jax.config import validate
from ddpm_jax.diffusion import Schedule
from ddpm_jax.distributed import mesh as meshes
from ddpm_jax.distributed.mesh import Layout
from ddpm_jax.losses import bound
from ddpm_jax.run.run import Chain, Eval, Grid, Quality, Sample, Train

SPACES = {"inception": None, "classifier": None, "pixels": None}


def sample_grid(
    chain_of: Callable[..., Chain], *, solver: str, steps: int, eta: float, count: int
) -> Grid:
    validate.at_least(1, "train.grid", count=count)
    return Grid(chain_of("train.grid", solver, steps, eta), count)


def train(
    layout: Layout, chain_of: Callable[..., Chain], *, grid: Mapping[str, Any], **fields: Any
) -> Train:
    """Raises ValueError for a number that is out of range or a batch that cannot be shared out."""
    grid_ = validate.section(sample_grid, "train.grid", grid, chain_of)
    chosen = validate.section(Train, "train", fields | {"grid": grid_})
    meshes.check_batch(layout.mesh, chosen.batch_size, "train.batch_size")
    validate.at_least(
        0, "train", **validate.fields_of(chosen, "steps", "sample_every", "keep_every")
    )
    validate.at_least(
        1,
        "train",
        **validate.fields_of(chosen, "clip_groups", "log_every", "checkpoint_every", "keep"),
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
    validate.choice("train.keep_best", chosen.keep_best, {"": None, "loss": None})
    validate.choice("train.on_nonfinite", chosen.on_nonfinite, {"stop": None, "skip": None})
    return chosen


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
    validate.at_least(1, "sample", count=count)
    validate.check_seed("sample.seed", seed)
    meshes.check_batch(mesh, batch_size, "sample.batch_size")
    if not -1.0 <= guidance < float("inf"):
        raise ValueError(
            f"sample.guidance is {guidance}; it must be -1 or more, and 0 turns it off"
        )
    chain = chain_of("sample", solver, steps, eta, spacing)
    chain = chain._replace(guidance=guidance, label=label)
    return Sample(chain, count, batch_size, seed, classifier)


def quality_section(**fields: Any) -> Quality:
    chosen = validate.section(Quality, "eval.quality", fields)
    validate.at_least(0, "eval.quality", samples=chosen.samples)
    if 0 < chosen.samples < 4:  # precision and recall look at third neighbours
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
    validate.at_least(0, "eval", images=images, train_images=train_images)
    validate.check_seed("eval.seed", seed)
    meshes.check_batch(mesh, batch_size, "eval.batch_size")
    strata, samples = bound.strata(sched.T, steps), quality_section(**quality)
    return Eval(images, train_images, strata, batch_size, seed, best, samples)
