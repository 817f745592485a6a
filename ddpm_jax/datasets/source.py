"""Splits of data sets, read as uint8 images without TensorFlow."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Array, Int, UInt8
from PIL import Image

from ddpm_jax.datasets import class_names, image_folder, library
from ddpm_jax.datasets.expected import Expected
from ddpm_jax.runtime import paths

Bytes = UInt8[np.ndarray, "n h w c"]
Indices = Int[np.ndarray, " n"]


class Batch(NamedTuple):
    images: Bytes | Array
    labels: Indices | Array | None = None  # for networks with classes


class Source(NamedTuple):
    """One split of a data set: 'read' takes indices and returns their images."""

    name: str
    records: Bytes | Sequence[dict]  # decoded images, or TFDS's records with encoded images
    shape: tuple[int, int, int]
    levels: int  # the number of grey levels, 0..levels - 1
    classes: int = 0  # 0 without labels
    names: tuple[str, ...] = ()  # of the classes
    loaded_labels: Indices | None = None  # of decoded images

    @property
    def count(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return len(self.records)

    def labels(self, indices: Indices) -> Indices:
        """Returns the labels of some images. Raises ValueError if the data set has none."""
        if self.loaded_labels is not None:
            return self.loaded_labels[indices]
        records = read_records(self.records, indices)
        if "label" not in records[0]:
            raise ValueError(f"data set {self.name!r} has no labels")
        return np.array([int(record["label"]) for record in records], np.int32)

    def batch(self, indices: Indices, labelled: bool) -> Batch:
        return Batch(self.read(indices), self.labels(indices) if labelled else None)

    def read(self, indices: Indices) -> Bytes:
        """Returns some images. Raises ValueError if sizes differ, RuntimeError if one cannot be read."""
        if isinstance(self.records, np.ndarray):
            return self.records[indices]
        images = decode(self.name, self.records, indices)
        for index, image in zip(indices, images, strict=True):
            if image.shape != self.shape:
                raise ValueError(
                    f"image {index} of data set {self.name} has shape {image.shape}, but others have"
                    f" {self.shape}; all must have the same size"
                )
        return np.stack(images)


def read_records(records: Any, indices: Indices) -> Sequence[dict[str, Any]]:
    """Reads some of TFDS's records, all in one call."""
    return records.__getitems__(indices.tolist())


def decode(name: str, records: Any, indices: Indices) -> list[np.ndarray]:
    """Decodes some images [h, w, c]. Raises RuntimeError, with its index, if one cannot be read."""
    try:
        encoded = [record["image"] for record in read_records(records, indices)]
    except Exception as error:  # ArrayRecord raises plain RuntimeErrors, among others
        raise RuntimeError(f"data set {name} cannot be read: {error}; prepare it again") from error
    images = []
    for index, content in zip(indices, encoded, strict=True):
        try:
            image = np.asarray(Image.open(io.BytesIO(content)))
        except OSError as error:
            raise RuntimeError(
                f"image {index} of data set {name} cannot be decoded; it begins with {content[:8]!r}"
            ) from error
        images.append(image if image.ndim == 3 else image[..., None])
    return images


def open_data_set(name: str, data_dir: str, split: str, image_size: int) -> Source:
    """Opens a split, or a slice like "train[:95%]". Images stay encoded until read; see batches.load.

    Raises ValueError if there is no such split, or the height of its images is not 'image_size'.
    """
    return open_split(library.open_builder(name, data_dir), split, image_size)


def open_split(builder: tfds.core.DatasetBuilder, split: str, image_size: int) -> Source:
    """Opens a split of a prepared data set. Raises ValueError for an unknown split or another size."""
    name = builder.name
    try:
        builder.info.splits[split]
    except (KeyError, ValueError) as error:
        known = ", ".join(builder.info.splits)
        raise ValueError(f"data set {name!r} has no split {split!r}; it has {known}") from error
    if not builder.info.splits[split].num_examples:
        raise ValueError(f"split {split!r} of data set {name!r} holds no image")
    decoders = {"image": tfds.decode.SkipDecoding()}
    try:
        records = builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]
    except NotImplementedError as error:
        raise ValueError(
            f"data set {name!r} is not stored as ArrayRecord; prepare it with"
            " download_and_prepare(file_format='array_record')"
        ) from error
    shape = decode(name, records, np.array([0]))[0].shape
    check_size(name, shape, image_size)
    names = library.label_names(library.features(builder))
    return Source(
        name=name,
        records=records,
        shape=shape,
        levels=level_count(builder),
        classes=len(names),
        names=names,
    )


def check_size(name: str, shape: tuple[int, ...], image_size: int) -> None:
    if shape[0] != image_size:
        raise ValueError(
            f"data.image_size is {image_size}, but images of {name!r} are {shape[0]}x{shape[1]}"
        )


def check_classes(source: Source, classes: int) -> None:
    """Raises ValueError if a network of 'classes' classes, 0 for none, cannot use the source's labels."""
    if classes and classes != source.classes:
        labels = f"labels of {source.classes} classes" if source.classes else "no labels"
        if source.names and not class_names.are_numbers(source.names):
            labels += f" ({class_names.table(source.names)})"
        raise ValueError(f"model.classes is {classes}, but data set {source.name!r} has {labels}")


def level_count(builder: tfds.core.DatasetBuilder) -> int:
    """The number of grey levels of the images."""
    return (builder.info.metadata or {}).get("levels", 256)


def declared(name: str, data_dir: str, image_size: int) -> tuple[tuple[int, int, int], int]:
    """Returns shape and grey levels from the metadata of a data set, which need not be prepared.

    Raises ValueError if there is no such data set, or the height of its images is not 'image_size'.
    """
    if name in library.FROM_SOURCE:
        shape, levels = (256, 256, 3), 256
    else:
        builder = library.find_builder(name, data_dir)
        height, width, channels = library.features(builder)["image"].shape
        shape = height or image_size, width or image_size, channels or 3
        levels = level_count(builder)
    check_size(name, shape, image_size)
    return shape, levels


class Data(NamedTuple):
    name: str
    data_dir: str
    image_size: int  # the height
    split: str
    held_out: str  # "" if the data set has no such split
    flip: bool
    expected: Expected | None = None  # of a run; not a field of the config

    def open(self, split: str) -> Source:
        opened = open_data_set(self.name, self.data_dir, split, self.image_size)
        if self.expected:
            self.expected.check(opened.name, opened.shape, opened.levels, opened.names)
        return opened

    def declared(self) -> tuple[tuple[int, int, int], int]:
        """Shape and grey levels of the images, without reading them."""
        return declared(self.name, self.data_dir, self.image_size)


class Folder(NamedTuple):
    """The user's own pictures: a data section with a 'path'."""

    name: str
    path: str
    data_dir: str
    image_size: int
    channels: int
    background: int  # the grey level behind transparent pictures
    skip_unreadable: bool
    split: str
    held_out: str
    flip: bool
    expected: Expected | None = None  # of a run; not a field of the config

    def check(self, fields: Mapping[str, str], classes: int) -> None:
        """Checks the folder before it is prepared; see image_folder.check."""
        if self.path:
            data_dir = library.resolve(self.data_dir)
            image_folder.check(paths.user_path(self.path), data_dir, fields, classes)

    def open(self, split: str) -> Source:
        """Opens a split, after preparing the folder under 'data_dir' if it is not yet.

        Raises ValueError if no picture is found, RuntimeError if one cannot be read.
        """
        if not self.path:
            raise ValueError(
                "data.path is not set; name a folder of pictures with --config.data.path=DIR"
            )
        directory = image_folder.prepare(
            root=paths.user_path(self.path),
            data_dir=library.resolve(self.data_dir),
            size=self.image_size,
            channels=self.channels,
            background=self.background,
            skip_unreadable=self.skip_unreadable,
            expected=self.expected,
        )
        opened = open_split(tfds.builder_from_directory(directory), split, self.image_size)
        if self.expected:
            self.expected.check(opened.name, opened.shape, opened.levels, opened.names)
        return opened

    def count(self) -> int | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns the number of pictures to train on, without reading them; None if it cannot be told."""
        root, data_dir = paths.user_path(self.path), library.resolve(self.data_dir)
        return image_folder.count(root, data_dir, self.split) if self.path else None

    def declared(self) -> tuple[tuple[int, int, int], int]:
        """Shape and grey levels of the images, without reading them."""
        return (self.image_size, self.image_size, self.channels), image_folder.LEVELS
