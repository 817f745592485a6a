"""The data sets on this machine's disks: found by name, prepared where they are not there."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import tensorflow_datasets as tfds
from etils import epath

from ddpm_jax.datasets import celeb_a_hq, digits, lsun, shards  # noqa: F401  (digits registers itself)
from ddpm_jax.runtime import console, lock


class FromSource(NamedTuple):
    """A data set that is made, by the prepare command, from what a user has fetched."""

    recipe: Callable[[str, epath.Path], shards.Recipe]  # of its name and the source
    source: str  # what that is called


FROM_SOURCE = {
    "celeb_a_hq/256": FromSource(celeb_a_hq.recipe, "data256x256.tar"),
    "lsun_bedroom256": FromSource(lsun.recipe, "bedroom_train_lmdb"),
    "lsun_church256": FromSource(lsun.recipe, "church_outdoor_train_lmdb"),
    "lsun_cat256": FromSource(lsun.recipe, "cat"),
}


def prepared(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """The builder of a data set that is on disk, where necessary prepared now.

    Raises ValueError if there is no such data set or no such 'data_dir'; "" is TFDS's own place.
    """
    check_exists(data_dir)
    builder = found(name, data_dir)
    if builder.is_prepared():
        return builder
    if name in FROM_SOURCE:
        raise not_made(name, data_dir)
    check_writable(place(data_dir))
    with lock.wait_for(shards.locks(place(data_dir), name)):
        if not found(name, data_dir).is_prepared():  # nor by whom we have waited for
            console.say(f"preparing data set {name} in {builder.data_dir}")
            prepare(preparer(builder, data_dir or None))
    return found(name, data_dir)


def place(data_dir: str) -> epath.Path:
    return epath.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()


def check_exists(data_dir: str) -> None:
    if data_dir and not place(data_dir).is_dir():
        raise ValueError(f"data.data_dir {data_dir} does not exist")


def check_writable(folder: epath.Path) -> None:
    """Raises ValueError if nothing can be prepared there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if "://" not in str(folder) and not os.access(there, os.W_OK):
        raise ValueError(f"data.data_dir: nothing can be written to {there}")


def found(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """Raises ValueError if there is no such data set, or not of images."""
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.registered.DatasetNotFoundError as error:
        if name in FROM_SOURCE:
            raise not_made(name, data_dir) from error
        raise ValueError(f"there is no data set {name!r} among TFDS's or in data_dir") from error
    if "image" not in (builder.info.features or {}):
        raise ValueError(f"data set {name!r} has no feature 'image'")
    return builder


def not_made(name: str, data_dir: str) -> ValueError:
    return ValueError(
        f"data set {name!r} is not in {place(data_dir)}; make it, once, with this --config, by"
        f" python -m ddpm_jax.main --mode=prepare --source={FROM_SOURCE[name].source}"
    )


def make(name: str, data_dir: str, source: str) -> None:
    """Prepares a data set from what its user has fetched. Goes on where it was interrupted.

    Raises ValueError for a data set that is not made so, or a source that is not what it needs.
    """
    if name not in FROM_SOURCE:
        raise ValueError(f"data set {name!r} takes no --source")
    check_exists(data_dir)
    check_writable(place(data_dir))
    recipe = FROM_SOURCE[name].recipe(name, epath.Path(source))
    console.say(f"preparing {name} from {source} in {shards.directory(place(data_dir), recipe)}")
    shards.write(place(data_dir), recipe)


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Raises ValueError if the builder needs TensorFlow and it is not installed.

    Raises RuntimeError where the network, the archive or the disk fails.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare(file_format="array_record")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"preparing data set {builder.name!r} needs TensorFlow, once: pip install"
            " 'ddpm_jax[prepare]', or set data.data_dir to where it is prepared"
        ) from error
    except Exception as error:  # a connection, a checksum, a disk: each library has its own kind
        why = " ".join(str(error).split())[:600] or type(error).__name__
        raise RuntimeError(f"preparing data set {builder.name!r} failed: {why}") from error


def preparer(builder: tfds.core.DatasetBuilder, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """A builder that prepares the same data set without TensorFlow, or the same where we have none."""
    if builder.name == "cifar10":
        from ddpm_jax.datasets.cifar10 import Cifar10  # TFDS's module takes a second to import

        return Cifar10(data_dir=data_dir)
    return builder
