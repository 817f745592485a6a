"""Loads the classifier that sample.classifier names."""

import json
import zlib
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.config import build, labels, stored_config
from ddpm_jax.diffusion import Schedule
from ddpm_jax.run import record as records
from ddpm_jax.run import state
from ddpm_jax.run.run import Guide, Run
from ddpm_jax.runtime import digest, paths


def open_guide(run: Run) -> Run:
    """Returns the run with the classifier that sample.classifier names in its chain, if there is one.

    Raises ValueError unless that folder has a trained classifier of the same images, schedule and
    classes.
    """
    if not run.sample.classifier:
        return run
    chain = run.sample.chain
    labels.check_solver("sample", chain)
    folder = paths.absolute(epath.Path(run.sample.classifier))
    paths.check_literal(folder, "sample.classifier")
    other = load_classifier(run, folder)
    chain = labels.find_label(chain, other.model.network.classes, other.labels)
    step, params = state.read_ema(other)
    chain = chain._replace(guide=Guide(model=other.model, params=params))
    # Two folders may share a name.
    checksum = zlib.crc32(json.dumps(digest.record(params)).encode())
    suffix = f"-by-{other.directory.name}-{step}-{checksum:08x}-w{chain.guidance:g}"
    chain = labels.append_to_name(chain, suffix)
    return run._replace(sample=run.sample._replace(chain=chain))


def load_classifier(run: Run, directory: epath.Path) -> Run:
    """Returns the classifier's run in 'directory', on the devices of 'run'.

    Raises ValueError if it holds no classifier, or one with other images, schedule or classes.
    """
    record = records.read(directory)
    if record is None:
        raise ValueError(f"sample.classifier: {directory} holds no run")
    sections = stored_config.lists_to_tuples(record["config"])
    sections["data"] = run.config["data"]  # its own may lie elsewhere here, and is not read
    sections["parallel"] = run.config["parallel"] | {"accumulation": 1, "remat": ()}
    sections["train"]["clip_groups"] = 1
    for name in ("train", "sample", "eval"):
        sections[name]["batch_size"] = run.mesh.size
    kind = build.stored_image_kind(record)
    other = build.run(ConfigDict(sections), directory, image_kind=kind, trust=run.trust)
    if not other.model.classifies:
        raise ValueError(
            f"sample.classifier: {directory} holds no classifier; train one as"
            " configs/digits_classifier.py does"
        )
    check_same_task(run, other)
    return other


def check_same_task(run: Run, other: Run) -> None:
    """Raises ValueError unless a classifier's run has this run's images, schedule and classes."""
    mine, its = run.model, other.model
    if (mine.shape, mine.levels) != (its.shape, its.levels):
        raise mismatch(other, "images", (its.shape, its.levels), (mine.shape, mine.levels))
    if not equal_schedules(mine.sched, its.sched):
        sections = (each.config["diffusion"]["schedule"] for each in (other, run))
        raise mismatch(other, "diffusion.schedule", *sections)
    if mine.network.classes not in (0, its.network.classes):
        raise mismatch(other, "model.classes", its.network.classes, mine.network.classes)


def equal_schedules(one: Schedule, other: Schedule) -> bool:
    """Returns whether two schedules have the same tables, bit for bit, however a config spells them."""
    if one.scale is None or other.scale is None:
        equal_scales = one.scale is other.scale
    else:
        equal_scales = np.array_equal(one.scale, other.scale)
    return (
        equal_scales
        and np.array_equal(one.beta, other.beta)
        and np.array_equal(one.alpha_bar, other.alpha_bar)
    )


def mismatch(other: Run, field: str, its: Any, mine: Any) -> ValueError:
    return ValueError(
        f"sample.classifier: {other.directory} has {field} {its}; this run has {mine}"
    )
