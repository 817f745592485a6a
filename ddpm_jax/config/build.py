"""Builds a Run from a ConfigDict; no lower room sees a ConfigDict.

All checks that need no computation are made here. Their messages name fields as users write them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax import optimizer as optimizers
from ddpm_jax.config import auto, labels, sampler, validate
from ddpm_jax.config import data as data_section
from ddpm_jax.config import model as model_section
from ddpm_jax.config import sections as config_sections
from ddpm_jax.config.model import Diffusion
from ddpm_jax.datasets.source import Data, Folder
from ddpm_jax.distributed import mesh as meshes
from ddpm_jax.distributed.mesh import Layout
from ddpm_jax.run import record as records
from ddpm_jax.run.model import ImageKind, Model
from ddpm_jax.run.run import Chain, Run

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
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
    image_kind: ImageKind | None = None,
) -> Run:
    """Returns the run of a config and a workdir. Raises ValueError if the config is invalid.

    'devices' replaces those that jax sees; with 'image_kind' the data set is not opened.
    """
    section, sections = validate.section, config.to_dict()
    check_sections(sections)
    # The data set is opened last: preparing it may take long.
    layout = section(meshes.layout, "parallel", sections["parallel"], devices)
    data = data_section.data_source(sections["data"])
    diffusion = section(model_section.build_diffusion, "diffusion", sections["diffusion"])
    stored = records.read_binding(directory, sections)
    sections = auto.fit_steps(sections, diffusion.sched.T, stored)
    optimizer = section(optimizers.adam, "optimizer", sections["optimizer"])
    sample_fields = dict(sections["sample"])
    build_chain = chain_builder(diffusion, sample_fields.pop("langevin", {}))
    train = section(config_sections.train, "train", sections["train"], layout, build_chain)
    sample = section(config_sections.sample, "sample", sample_fields, layout.mesh, build_chain)
    evaluation = section(
        config_sections.evaluation, "eval", sections["eval"], layout.mesh, diffusion.sched
    )
    shape, levels = image_kind or find_image_kind(data, stored)
    sections = auto.fit_attention(sections, shape, stored)
    model = build_model(sections["model"], diffusion, shape, levels, layout)
    sample = labels.check_and_name(sample, train, model.network.classes)
    if diffusion.classifies:
        labels.check_classifier(model.network.classes, train, evaluation)
    return Run(
        directory=directory,
        checkpoints=directory / "checkpoints",
        config=sections,
        seed=sections["seed"],
        layout=layout,
        data=data,
        model=model,
        optimizer=optimizer,
        train=train,
        sample=sample,
        eval=evaluation,
    )


def chain_builder(diffusion: Diffusion, langevin: Mapping[str, Any]) -> Callable[..., Chain]:
    """Returns sampler.chain with all that the chains of a run share; 'langevin' is sample.langevin."""
    return partial(
        sampler.chain,
        diffusion.sched,
        diffusion.parameterization,
        diffusion.variance,
        langevin=validate.section(sampler.langevin, "sample.langevin", langevin),
    )


def build_model(
    fields: Mapping[str, Any],
    diffusion: Diffusion,
    shape: tuple[int, int, int],
    levels: int,
    layout: Layout,
) -> Model:
    """Returns the model of a config's section, for images of one shape and number of grey levels."""
    return Model(
        sched=diffusion.sched,
        parameterization=diffusion.parameterization,
        variance=diffusion.variance,
        objective=diffusion.objective(levels),
        timesteps=diffusion.timesteps,
        network=validate.section(
            model_section.build_network, "model", fields, shape, diffusion, layout
        ),
        shape=shape,
        levels=levels,
        classifies=diffusion.classifies,
    )


def check_sections(sections: Mapping[str, Any]) -> None:
    """Raises ValueError for a missing section and for an invalid seed, a field without a section."""
    missing = [name for name in SECTIONS if name not in sections]
    if missing:
        raise ValueError(f"the config has no section {', '.join(missing)}")
    validate.check_seed("seed", sections["seed"])


def find_image_kind(data: Data | Folder, stored: Mapping[str, Any] | None) -> ImageKind:
    """Returns shape and grey levels from the run's record if there is one, else from the data."""
    if stored is not None:
        return stored_image_kind(stored)
    source = data.open(data.split)
    return source.shape, source.levels


def stored_image_kind(stored: Mapping[str, Any]) -> ImageKind:
    height, width, channels = stored["images"]["shape"]
    return (height, width, channels), stored["images"]["levels"]
