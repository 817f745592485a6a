"""The config of a foreign checkpoint: a base config, updated with what the weights determine.

The base has what weights do not determine: data, optimiser, length of training. Unless the user names
a base, it is a file of configs/ chosen by the checkpoint's name.
"""

import re
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.config import config_file
from ddpm_jax.run import record
from ddpm_jax.runtime import paths
from ddpm_jax.weights import hub
from ddpm_jax.weights.source import Source

BASES = {  # keys are words in the names under which the paper's models circulate
    "cifar10": "cifar10.py",
    "celebahq": "celebahq256.py",
    "church": "lsun_church256.py",
    "bedroom": "lsun_bedroom256.py",
    "cat": "lsun_cat256.py",
}


def folder_name(path: str) -> str:
    """Returns the name of a source's folder or repository, which becomes the name of its run."""
    if paths.is_on_hub(path):
        return hub.parse(path).name
    place = paths.absolute(epath.Path(path))
    return (place if place.is_dir() else place.parent).name


def find_base(source: Source) -> epath.Path:
    """Returns the file of configs/ whose name and image size match the source, else image_folder.py."""
    configs = config_file.package_folder()
    name = "/".join(paths.absolute(source.path).parts[-2:]).lower()
    for word, file in BASES.items():
        found = re.search(rf"(^|[^a-z]){word}($|[^a-z0-9])", name)
        size = 32 if word == "cifar10" else 256
        if found and source.shape == (size, size, 3):
            return configs / file
    return configs / "image_folder.py"


def build_config(source: Source, base: str) -> ConfigDict:
    """Returns the base config, "" for the one that find_base chooses, updated with the source's fields.

    The release's files do not store their diffusion section: it is that of a base that the user names,
    else the release's. Raises ValueError if the base does not exist or lacks a section.
    """
    config: Any = config_file.load(base or str(find_base(source)))  # sections have no static types
    sections = dict(source.sections)
    if base and source.format != "diffusers":
        sections.pop("diffusion")
    try:
        for section, fields in sections.items():
            config[section].update(
                {name: value for name, value in fields.items() if name in config[section]}
            )
        T = config.diffusion.schedule.T
        for settings in (config.sample, config.eval, config.train.grid):
            if settings.steps != record.AUTO:
                settings.steps = min(settings.steps, T)
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"--config {base} is not a complete config: {error}") from error
    if not base:
        config.sample.steps = config.eval.steps = T
    return config
