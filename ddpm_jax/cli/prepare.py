"""--mode=prepare: prepares a config's data set on disk, so that no accelerator waits for it."""

import jax
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.cli.exit import Usage
from ddpm_jax.config import data as data_section
from ddpm_jax.config import provenance
from ddpm_jax.datasets import library
from ddpm_jax.datasets.own import Own
from ddpm_jax.datasets.source import Data, Folder
from ddpm_jax.runtime import console


def build(
    config: ConfigDict, directory: epath.Path, source: str | None, trust: bool
) -> Data | Folder | Own:
    """Returns the config's data section. Raises ValueError for invalid fields."""
    provenance.check(config.to_dict(), directory, trust)
    jax.config.update("jax_platforms", "cpu")  # a TPU serves one process, and this one needs no TPU
    data = data_section.data_source(config.to_dict()["data"])
    if isinstance(data, Folder):
        splits = {"data.split": data.split, "data.held_out": data.held_out}
        data.check({field: split for field, split in splits.items() if split}, classes=0)
    return data


def prepare(data: Data | Folder | Own, source: str | None) -> None:
    """Prepares both splits, converting 'source' if it is given, and prints their sizes.

    Raises Usage for an unknown split or a wrong source, RuntimeError for an unreadable image.
    """
    try:
        if source:
            library.prepare_from_source(data.name, data.data_dir, source)
        elif isinstance(data, Data):
            library.open_builder(data.name, data.data_dir, make_folder=True)
        splits = {split: data.open(split) for split in filter(None, (data.split, data.held_out))}
    except ValueError as error:
        raise Usage(str(error)) from error
    for split, images in splits.items():
        height, width, channels = images.shape
        console.say(f"{images.name} {split}: {images.count} images {height}x{width}x{channels}")
