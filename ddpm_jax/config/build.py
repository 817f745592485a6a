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
from ddpm_jax.config import auto, labels, provenance, sampler, validate
from ddpm_jax.config import data as data_section
from ddpm_jax.config import model as model_section
from ddpm_jax.config import sections as config_sections
from ddpm_jax.config.model import Diffusion
from ddpm_jax.datasets.expected import Expected
from ddpm_jax.datasets.own import Own
from ddpm_jax.datasets.source import Data, Folder
from ddpm_jax.distributed import mesh as meshes
from ddpm_jax.distributed.mesh import Layout
from ddpm_jax.run import record as records
from ddpm_jax.run.model import ImageKind, Model
from ddpm_jax.run.run import Chain, Run
from ddpm_jax.runtime import paths

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
    trust: bool = False,
) -> Run:
    """Returns the run of a config and a workdir. Raises ValueError if the config is invalid.

    'devices' replaces those that jax sees; with 'image_kind' the data set is not opened.
    """
    section, sections = validate.section, config.to_dict()
    check_sections(sections, directory, trust)
    layout = section(meshes.layout, "parallel", sections["parallel"], devices)
    data = data_section.data_source(sections["data"])
    diffusion = section(model_section.build_diffusion, "diffusion", sections["diffusion"])
    sched = diffusion.sched
    stored = records.read_binding(directory, sections)
    sections = auto.fit_steps(sections, sched.T, stored)
    optimizer = section(optimizers.adam, "optimizer", sections["optimizer"])
    sample_fields = dict(sections["sample"])
    build_chain = chain_builder(diffusion, sample_fields.pop("langevin", {}))
    train = section(config_sections.train, "train", sections["train"], layout, build_chain)
    sample = section(config_sections.sample, "sample", sample_fields, layout.mesh, build_chain)
    evaluation = section(config_sections.evaluation, "eval", sections["eval"], layout.mesh, sched)
    expected, count = find_expected(data, directory, stored, image_kind, sections)  # may be slow
    images = auto.Images(expected.shape, count, meshes.is_on_cpu(layout.mesh))
    sections = auto.fit_network(sections, images, stored)
    model = build_model(sections["model"], diffusion, expected.shape, expected.levels, layout)
    sample = labels.check_and_name(sample, train, model.network.classes, expected.labels)
    labels.check_classifier(model, train, evaluation)
    return Run(
        directory=directory,
        checkpoints=directory / "checkpoints",
        config=sections,
        seed=sections["seed"],
        layout=layout,
        data=data._replace(expected=expected.for_network(model.network.classes)),
        model=model,
        optimizer=optimizer,
        train=train,
        sample=sample,
        eval=evaluation,
        trust=trust,
    )


def change(run_: Run, fields: Mapping[str, Any]) -> Run:
    """Returns a run with some fields of its config changed, for the same images and devices.

    Raises ValueError for an invalid value.
    """
    config = ConfigDict(run_.config)
    with config.ignore_type():  # sample.label may be a name; the sections check the types
        config.update_from_flattened_dict(dict(fields))
    devices = run_.mesh.devices.reshape(-1).tolist()
    kind = run_.model.shape, run_.model.levels
    changed = run(config, run_.directory, devices, kind, run_.trust)
    kept = {
        name: getattr(run_, name) for name in ("checkpoints", "data", "name", "weights", "step")
    }
    return changed._replace(**kept)


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


def check_sections(sections: dict[str, Any], directory: epath.Path, trust: bool) -> None:
    """Raises ValueError for a missing section, an invalid seed, and user code that needs 'trust'."""
    missing = [name for name in SECTIONS if name not in sections]
    if missing:
        raise ValueError(f"the config has no section {', '.join(missing)}")
    validate.check_seed("seed", sections["seed"])
    provenance.check(sections, directory, trust)


def stored_image_kind(stored: Mapping[str, Any]) -> ImageKind:
    height, width, channels = stored["images"]["shape"]
    return (height, width, channels), stored["images"]["levels"]


def check_folder(data: Folder, directory: epath.Path, classes: int, held_out: int) -> None:
    """Raises ValueError for a folder of pictures from which a new run cannot be trained.

    It has 'classes' classes, and measures 'held_out' held-out images.
    """
    folder = paths.user_path(data.path)
    if data.path and paths.absolute(folder) == paths.absolute(directory):
        raise ValueError(
            f"data.path {data.path} is the --workdir too, where the run writes pictures of its own;"
            " choose another --workdir"
        )
    splits = {"data.split": data.split} | ({"data.held_out": data.held_out} if held_out else {})
    data.check({field: split for field, split in splits.items() if split}, classes)


def find_expected(
    data: Data | Folder | Own,
    directory: epath.Path,
    stored: Mapping[str, Any] | None,
    image_kind: ImageKind | None,
    sections: Mapping[str, Any],
) -> tuple[Expected, int | None]:
    """Returns what a run's images are like: as its record says if there is one, else as the data are.

    Also returns their number, None if it is unknown. With 'image_kind', shape and grey levels are these. Raises ValueError for data that lack labels or
    the held-out split, if 'sections', the config, need them.
    """
    if stored is None and image_kind is None:
        if isinstance(data, Folder):
            classes = sections["model"].get("classes", 0)  # user code may have no such field
            check_folder(data, directory, classes, sections["eval"]["images"])
        source = data.open(data.split)
        return Expected(source.shape, source.levels, source.names), source.count
    labels = stored.get("labels") if stored else ()
    shape, levels = image_kind or stored_image_kind(stored or {})
    count = data.count() if isinstance(data, Folder) and stored is None else None
    return Expected(shape, levels, None if labels is None else tuple(labels)), count
