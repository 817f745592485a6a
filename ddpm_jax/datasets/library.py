"""Finds data sets on disk by name, and prepares those that are missing."""

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import constants, registered

from ddpm_jax.datasets import celeb_a_hq, digits, lsun, shards  # noqa: F401  (digits registers itself)
from ddpm_jax.runtime import console, lock, paths


class FromSource(NamedTuple):
    """A data set that --mode=prepare makes from a file or folder that the user has downloaded."""

    recipe: Callable[[str, epath.Path], shards.Recipe]  # called with its name and the source
    source: str  # the usual name of the file or folder


FROM_SOURCE = {
    "celeb_a_hq/256": FromSource(celeb_a_hq.recipe, "data256x256.tar"),
    "lsun_bedroom256": FromSource(lsun.recipe, "bedroom_train_lmdb"),
    "lsun_church256": FromSource(lsun.recipe, "church_outdoor_train_lmdb"),
    "lsun_cat256": FromSource(lsun.recipe, "cat"),
}


def open_builder(name: str, data_dir: str, make_folder: bool = False) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set, which is prepared now if it is not on disk.

    Raises ValueError if there is no such data set or, without 'make_folder', no folder 'data_dir'; ""
    is TFDS's default folder.
    """
    folder = resolve(data_dir)
    if not make_folder:
        check_exists(data_dir)
    builder = find_builder(name, data_dir)
    if builder.is_prepared():
        return builder
    if name in FROM_SOURCE:
        raise not_prepared(name, data_dir)
    check_writable(folder)
    with lock.wait_for(shards.lock_path(folder, name)):
        # Another process may have prepared it meanwhile.
        if not find_builder(name, data_dir).is_prepared():
            console.say(f"preparing data set {name} in {builder.data_dir}")
            download_and_prepare(preparing_builder(builder, data_dir or None))
    return find_builder(name, data_dir)


def resolve(data_dir: str) -> epath.Path:
    """Returns the folder of prepared data sets; "" is TFDS's default.

    Raises ValueError for a path that TFDS would take for a pattern.
    """
    folder = paths.user_path(data_dir or constants.DATA_DIR)
    paths.check_literal(folder, "data.data_dir")
    return folder


def check_exists(data_dir: str) -> None:
    if data_dir and not resolve(data_dir).is_dir():
        raise ValueError(f"data.data_dir {data_dir} does not exist; --mode=prepare makes it")


def check_writable(folder: epath.Path) -> None:
    """Raises ValueError if the folder, or the nearest parent that exists, is not writable."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if "://" not in str(folder) and not os.access(existing, os.W_OK):
        raise ValueError(f"data.data_dir: {existing} is not writable")


def find_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """Returns a data set's builder, prepared or not. Raises ValueError if it is unknown, or not of images."""
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except registered.DatasetNotFoundError as error:
        if name in FROM_SOURCE:
            raise not_prepared(name, data_dir) from error
        raise ValueError(f"there is no data set {name!r} among TFDS's or in data_dir") from error
    if "image" not in features(builder):
        raise ValueError(f"data set {name!r} has no feature 'image'")
    return builder


def features(builder: tfds.core.DatasetBuilder) -> Any:
    """A data set's FeaturesDict, which TFDS's annotations do not promise; {} if it has none."""
    return builder.info.features or {}


def label_names(known: Any) -> tuple[str, ...]:
    """Returns the names of the labels among a data set's features; () if it has none."""
    if "label" not in known or not getattr(known["label"], "num_classes", None):
        return ()
    return tuple(known["label"].names)


def not_prepared(name: str, data_dir: str) -> ValueError:
    return ValueError(
        f"data set {name!r} is not in {resolve(data_dir)}; prepare it once, by: ddpm prepare"
        f" CONFIG --source={FROM_SOURCE[name].source}, where CONFIG is that of this run"
    )


def prepare_from_source(name: str, data_dir: str, source: str) -> None:
    """Prepares a data set from a file or folder that the user has downloaded; resumes after an interruption.

    Raises ValueError if the data set takes no source, or cannot be made from this one.
    """
    if name not in FROM_SOURCE:
        raise ValueError(f"data set {name!r} takes no --source")
    check_writable(resolve(data_dir))
    recipe = FROM_SOURCE[name].recipe(name, epath.Path(source))
    console.say(f"preparing {name} from {source} in {shards.directory(resolve(data_dir), recipe)}")
    shards.write(resolve(data_dir), recipe)


def download_and_prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Prepares a data set as ArrayRecord files.

    Raises ValueError if the builder needs TensorFlow and it is not installed, RuntimeError if the
    network, the archive or the disk fails.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare(file_format="array_record")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"preparing data set {builder.name!r} needs TensorFlow: pip install 'ddpm_jax[prepare]',"
            " or set data.data_dir to a folder where it is prepared"
        ) from error
    except Exception as error:  # each library raises its own for a connection, a checksum, a disk
        reason = " ".join(str(error).split())[:600] or type(error).__name__
        raise RuntimeError(f"preparing data set {builder.name!r} failed: {reason}") from error


def preparing_builder(
    builder: tfds.core.DatasetBuilder, data_dir: str | None
) -> tfds.core.DatasetBuilder:
    """Returns our builder of the same data set, which needs no TensorFlow, if there is one."""
    if builder.name == "cifar10":
        from ddpm_jax.datasets.cifar10 import Cifar10  # imports TFDS's module, which takes a second

        return Cifar10(data_dir=data_dir)
    return builder
