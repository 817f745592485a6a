"""The config of a foreign checkpoint, as a config file: what it says of itself, over a base.

--config=imported_config.py:TEXT, which 'text' makes. The base has what weights do not
say: data, optimiser, how long. It is a file of configs/, by the checkpoint's name if none is given.
"""

import re
import runpy
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from ddpm_jax import weights_source
from ddpm_jax.weights_source import Source

CONFIGS = Path(__file__).parents[1] / "configs"
BASES = {  # words in the names under which the paper's models circulate
    "cifar10": "cifar10.py",
    "celeba": "celebahq256.py",
    "church": "lsun_church256.py",
    "bedroom": "lsun_bedroom256.py",
    "cat": "lsun_cat256.py",
}


def text(source: str, format: str, base: str) -> str:
    return f"{source}\n{format}\n{base}"


def name_of(text: str) -> str:
    """The folder that the weights are, or are in."""
    path = epath.Path(text.split("\n")[0])
    return (path if path.is_dir() else path.resolve().parent).name


def base_for(source: Source) -> Path:
    """By the name of its file or folder, of its size; the user's own pictures if that says nothing."""
    name = "/".join(epath.Path(source.path).parts[-2:]).lower()
    for word, file in BASES.items():
        if re.search(rf"(^|[^a-z]){word}", name) and (source.shape[0] == 32) == (word == "cifar10"):
            return CONFIGS / file
    return CONFIGS / "image_folder.py"


def get_config(text: str) -> ConfigDict:
    path, format, base = text.split("\n")
    return config_of(weights_source.read(path, format), base)


def config_of(source: Source, base: str) -> ConfigDict:
    """Raises ValueError if there is no such base."""
    config = base_config(base or str(base_for(source)))
    for section, fields in source.sections.items():
        config[section].update({name: fields[name] for name in fields if name in config[section]})
    T = config.diffusion.schedule.T
    config.sample.steps = config.eval.steps = T
    config.train.grid.steps = min(config.train.grid.steps, T)
    return config


def base_config(name: str) -> ConfigDict:
    file, _, row = name.partition(":")
    if not Path(file).is_file():
        raise ValueError(f"there is no file {file} to take data and training from; give --config")
    read = runpy.run_path(file)["get_config"]
    return read(row) if row else read()
