"""--mode=prepare: a config's data set on disk, so that no accelerator waits for it."""

import jax
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.cli.exit import Usage
from ddpm_jax.config import data as data_section
from ddpm_jax.datasets import library
from ddpm_jax.datasets.source import Data, Folder
from ddpm_jax.runtime import console


def data_of(config: ConfigDict, directory: epath.Path, source: str | None) -> Data | Folder:
    """The config's data section. Raises ValueError for wrong fields."""
    jax.config.update("jax_platforms", "cpu")  # a TPU serves one process, and this one needs none
    return data_section.data_source(config.data.to_dict())


def prepare(data: Data | Folder, source: str | None) -> None:
    """Prepares both splits, from 'source' where the data set is made of one, and prints their sizes.

    Raises Usage for an unknown split or a wrong source, RuntimeError for what cannot be read.
    """
    try:
        if source:
            library.prepare_from_source(data.name, data.data_dir, source)
        splits = {split: data.open(split) for split in filter(None, (data.split, data.held_out))}
    except ValueError as error:
        raise Usage(str(error)) from error
    for split, opened in splits.items():
        height, width, channels = opened.shape
        console.say(f"{opened.name} {split}: {opened.count} images {height}x{width}x{channels}")
