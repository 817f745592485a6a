"""The config of a foreign checkpoint: what the weights say of themselves, over a base config.

The base has what weights do not say: data, optimiser, length of training. It is a file of configs/,
chosen by the checkpoint's name if the user gives none.
"""

import re
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.config import config_file
from ddpm_jax.weights.source import Source

CONFIGS = Path(__file__).parents[2] / "configs"
BASES = {  # by words in the names under which the paper's models circulate
    "cifar10": "cifar10.py",
    "celebahq": "celebahq256.py",
    "church": "lsun_church256.py",
    "bedroom": "lsun_bedroom256.py",
    "cat": "lsun_cat256.py",
}


def folder_name(path: str) -> str:
    """The name of the folder that a source is, or lies in: what its run is called."""
    place = absolute(epath.Path(path))
    return (place if place.is_dir() else place.parent).name


def absolute(path: epath.Path) -> epath.Path:
    return path if "://" in str(path) else path.resolve()  # a bucket's path is absolute already


def base_for(source: Source) -> Path:
    """The config of configs/ whose name and image size match the source, else image_folder.py."""
    name = "/".join(absolute(source.path).parts[-2:]).lower()
    for word, file in BASES.items():
        found = re.search(rf"(^|[^a-z]){word}($|[^a-z0-9])", name)
        if found and source.shape[0] == (32 if word == "cifar10" else 256):
            return CONFIGS / file
    return CONFIGS / "image_folder.py"


def config_of(source: Source, base: str) -> ConfigDict:
    """The base config, "" for the one that base_for chooses, updated with what the source says.

    The release's files do not say what their diffusion is: it is the base's if one was given, else the
    release's. Raises ValueError if there is no such base, or if it lacks a section.
    """
    config = config_file.load(base or str(base_for(source)))
    sections = dict(source.sections)
    if base and source.format != "diffusers":
        sections.pop("diffusion")
    try:
        for section, fields in sections.items():
            known = {name: fields[name] for name in fields if name in config[section]}
            config[section].update(known)
        T = config.diffusion.schedule.T
        for chain in (config.sample, config.eval, config.train.grid):
            chain.steps = min(chain.steps, T)
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"--config {base} is not a complete config: {error}") from error
    if not base:
        config.sample.steps = config.eval.steps = T
    return config
