"""The config of a foreign checkpoint, as a config file: what it says of itself, over a base.

--config=imported_config.py:TEXT, which 'text' makes. The base has what weights do not
say: data, optimiser, how long. It is a file of configs/, by the checkpoint's name if none is given.
"""

import re
import runpy
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.weights import source
from ddpm_jax.weights.source import Source

CONFIGS = Path(__file__).parents[2] / "configs"
BASES = {  # words in the names under which the paper's models circulate
    "cifar10": "cifar10.py",
    "celebahq": "celebahq256.py",
    "church": "lsun_church256.py",
    "bedroom": "lsun_bedroom256.py",
    "cat": "lsun_cat256.py",
}


def text(source: str, format: str, base: str) -> str:
    return f"{source}\n{format}\n{base}"


def name_of(text: str) -> str:
    """The folder that the weights are, or are in."""
    path = absolute(epath.Path(text.split("\n")[0]))
    return (path if path.is_dir() else path.parent).name


def base_for(source: Source) -> Path:
    """By the name of its file or folder, of its size; the user's own pictures if that says nothing."""
    name = "/".join(absolute(source.path).parts[-2:]).lower()
    for word, file in BASES.items():
        named = re.search(rf"(^|[^a-z]){word}($|[^a-z0-9])", name)
        if named and source.shape[0] == (32 if word == "cifar10" else 256):
            return CONFIGS / file
    return CONFIGS / "image_folder.py"


def absolute(path: epath.Path) -> epath.Path:
    """With the names of its folders; what a bucket has is so already."""
    return path if "://" in str(path) else path.resolve()


def get_config(text: str) -> ConfigDict:
    path, format, base = text.split("\n")
    return config_of(source.read(path, format), base)


def config_of(source: Source, base: str) -> ConfigDict:
    """What the weights say, over a base.

    Where they say nothing of the diffusion, as the authors' files, the release's is taken without a base,
    and the base's with one. Raises ValueError if there is no such base, or it is no config.
    """
    config = base_config(base or str(base_for(source)))
    known = dict(source.sections)
    if base and source.format != "diffusers":
        known.pop("diffusion")
    try:
        for section, fields in known.items():
            kept = {name: fields[name] for name in fields if name in config[section]}
            config[section].update(kept)
        T = config.diffusion.schedule.T
        for chain in (config.sample, config.eval, config.train.grid):
            chain.steps = min(chain.steps, T)
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"--config {base} is no whole config: {error}") from error
    if not base:
        config.sample.steps = config.eval.steps = T
    return config


def base_config(name: str) -> ConfigDict:
    file, _, row = name.partition(":")
    if not Path(file).is_file():
        raise ValueError(f"there is no file {file} to take data and training from; give --config")
    try:
        read = runpy.run_path(file)["get_config"]
        return read(row) if row else read()
    except Exception as error:  # a config file is a program
        raise ValueError(f"--config {name}: {type(error).__name__}: {error}") from error
