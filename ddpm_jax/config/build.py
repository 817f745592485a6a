"""Builds a Run from a ConfigDict; nothing below sees a ConfigDict.

All checks that need no computation are made here, and name a field as users know it.
"""

from collections.abc import Sequence
from functools import partial

import jax
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax import optimizer
from ddpm_jax.config import data as data_section
from ddpm_jax.config import labels, sampler, validate
from ddpm_jax.config import model as model_section
from ddpm_jax.config import sections as config_sections
from ddpm_jax.datasets import source
from ddpm_jax.distributed import mesh as meshes
from ddpm_jax.run import record as records
from ddpm_jax.run.model import ImageKind, Model
from ddpm_jax.run.run import Run

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


def run(
    config: ConfigDict,
    directory: epath.Path,
    present: Sequence[jax.Device] | None = None,
    of_images: ImageKind | None = None,
) -> Run:
    """Everything a program needs. Raises ValueError for what the config gets wrong.

    'present' are the devices there are, if not those that jax sees; 'of_images' spares the data set.
    """
    section, sections = validate.section, config.to_dict()
    check_sections(sections)
    validate.check_seed("seed", sections["seed"])
    # What needs no data set comes first: preparing one may take long.
    layout = section(meshes.layout, "parallel", sections["parallel"], present)
    mesh = layout.mesh
    data = data_section.data_source(sections["data"])
    diffused = section(model_section.diffusion_of, "diffusion", sections["diffusion"])
    sampled = dict(sections["sample"])
    langevin = section(sampler.langevin, "sample.langevin", sampled.pop("langevin", {}))
    chain_of = partial(sampler.chain, *diffused[:3], langevin=langevin)
    optimize = section(optimizer.adam, "optimizer", sections["optimizer"])
    train = section(config_sections.train, "train", sections["train"], layout, chain_of)
    sample = section(config_sections.sample, "sample", sampled, mesh, chain_of)
    evaluation = section(config_sections.evaluation, "eval", sections["eval"], mesh, diffused.sched)
    shape, levels = of_images or image_kind(data, directory)
    network = section(model_section.network_of, "model", sections["model"], shape, diffused, layout)
    sample = labels.checked(sample, train, network.classes)
    if diffused.classifies:
        labels.check_classifier(network.classes, train, evaluation)
    model = Model(
        sched=diffused.sched,
        parameterization=diffused.parameterization,
        variance=diffused.variance,
        objective=diffused.objective(levels),
        timesteps=diffused.timesteps,
        network=network,
        shape=shape,
        levels=levels,
        classifies=diffused.classifies,
    )
    seed = sections["seed"]
    checkpoints = directory / "checkpoints"
    programs = train, sample, evaluation
    return Run(directory, checkpoints, sections, seed, layout, data, model, optimize, *programs)


def check_sections(sections: dict) -> None:
    missing = [name for name in SECTIONS if name not in sections]
    if missing:
        raise ValueError(f"the config has no section {', '.join(missing)}")


def image_kind(data: source.Data | source.Folder, directory: epath.Path) -> ImageKind:
    """Shape and grey levels: the run's own record of them, else the data set's."""
    record = records.read(directory)
    if record is not None:
        return tuple(record["images"]["shape"]), record["images"]["levels"]
    source = data.open(data.split)
    return source.shape, source.levels
