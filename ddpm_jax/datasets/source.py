"""One split of a data set, read without TensorFlow as uint8 images."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from jaxtyping import Array, Int, UInt8
from PIL import Image

from ddpm_jax.datasets import image_folder, library

Bytes = UInt8[np.ndarray, "n h w c"]
Indices = Int[np.ndarray, " n"]


class Batch(NamedTuple):
    images: Bytes | Array
    labels: Indices | Array | None = None  # where a network asks for them


class Source(NamedTuple):
    """One split of a data set: 'read' takes indices and returns their images."""

    name: str
    records: Bytes | Sequence[dict]  # decoded images, or TFDS's records with encoded ones
    shape: tuple[int, int, int]
    levels: int  # the number of grey levels, 0..levels - 1
    classes: int = 0  # of the labels, where there are any
    known: Indices | None = None  # the labels of a source that is loaded

    @property
    def count(self) -> int:
        return len(self.records)

    def labels(self, indices: Indices) -> Indices:
        """Raises ValueError if the data set has none."""
        if self.known is not None:
            return self.known[indices]
        records = self.records.__getitems__(indices.tolist())
        if "label" not in records[0]:
            raise ValueError(f"data set {self.name!r} has no labels")
        return np.array([int(record["label"]) for record in records], np.int32)

    def batch(self, indices: Indices, labelled: bool) -> Batch:
        return Batch(self.read(indices), self.labels(indices) if labelled else None)

    def read(self, indices: Indices) -> Bytes:
        if isinstance(self.records, np.ndarray):
            return self.records[indices]
        images = decoded(self.name, self.records, indices)
        for index, image in zip(indices, images, strict=True):
            if image.shape != self.shape:
                raise ValueError(
                    f"image {index} of data set {self.name} is of shape {image.shape} among images"
                    f" of shape {self.shape}; all must be of one size"
                )
        return np.stack(images)


def decoded(name: str, records: Any, indices: Indices) -> list[np.ndarray]:
    """Some images [h, w, c] of a data set. Raises RuntimeError, naming what cannot be read."""
    try:
        encoded = [record["image"] for record in records.__getitems__(indices.tolist())]
    except Exception as error:  # ArrayRecord's are plain RuntimeErrors and worse
        raise RuntimeError(f"data set {name} cannot be read: {error}; prepare it again") from error
    images = []
    for index, content in zip(indices, encoded, strict=True):
        try:
            image = np.asarray(Image.open(io.BytesIO(content)))
        except OSError as error:
            raise RuntimeError(
                f"image {index} of data set {name} cannot be decoded; it begins {content[:8]!r}"
            ) from error
        images.append(image if image.ndim == 3 else image[..., None])
    return images


def source(name: str, data_dir: str, split: str, image_size: int) -> Source:
    """A split of a data set, or a slice "train[:95%]" of one, its images still encoded; see 'loaded'.

    Raises ValueError if there is no such split or its images are not of height 'image_size'.
    """
    return opened(library.prepared(name, data_dir), split, image_size)


def folder(
    path: str,
    data_dir: str,
    split: str,
    image_size: int,
    channels: int,
    background: int,
    skip_unreadable: bool,
) -> Source:
    """The pictures of a folder, prepared under 'data_dir' where that has not been done before."""
    if not path:
        raise ValueError(
            "data.path is not set; say which folder of pictures, --config.data.path=DIR"
        )
    library.check_exists(data_dir)
    form = (image_size, channels, background, skip_unreadable)
    directory = image_folder.prepared(epath.Path(path), library.place(data_dir), *form)
    return opened(tfds.builder_from_directory(directory), split, image_size)


def opened(builder: tfds.core.DatasetBuilder, split: str, image_size: int) -> Source:
    """A split of what is prepared. Raises ValueError for a split or a size that it does not have."""
    name = builder.name
    try:
        builder.info.splits[split]
    except (KeyError, ValueError) as error:
        known = ", ".join(builder.info.splits)
        raise ValueError(f"data set {name!r} has no split {split!r}; it has {known}") from error
    encoded = {"image": tfds.decode.SkipDecoding()}
    try:
        records = builder.as_data_source(split, decoders=encoded)
    except NotImplementedError as error:
        raise ValueError(
            f"data set {name!r} is not stored as ArrayRecord; prepare it with"
            " download_and_prepare(file_format='array_record')"
        ) from error
    if not len(records):
        raise ValueError(f"split {split!r} of data set {name!r} holds no image")
    shape = decoded(name, records, np.array([0]))[0].shape
    check_size(name, shape, image_size)
    classes = builder.info.features["label"].num_classes if "label" in builder.info.features else 0
    return Source(name, records, shape, levels_of(builder), classes)


def check_size(name: str, shape: tuple[int, ...], image_size: int) -> None:
    if shape[0] != image_size:
        raise ValueError(
            f"data.image_size is {image_size}, but images of {name!r} are {shape[0]}x{shape[1]}"
        )


def check_classes(source: Source, classes: int) -> None:
    """Raises ValueError if a network of so many classes, 0 for none, cannot learn from these labels."""
    if classes and classes != source.classes:
        labels = f"labels of {source.classes} classes" if source.classes else "no labels"
        raise ValueError(f"model.classes is {classes}, but data set {source.name!r} has {labels}")


def levels_of(builder: tfds.core.DatasetBuilder) -> int:
    return (builder.info.metadata or {}).get("levels", 256)


def declared(name: str, data_dir: str, image_size: int) -> tuple[tuple[int, int, int], int]:
    """Shape and grey levels by what a data set says of itself, which need not be there.

    Raises ValueError if there is no such data set or its images are not of height 'image_size'.
    """
    if name in library.FROM_SOURCE:
        shape, levels = (256, 256, 3), 256
    else:
        builder = library.found(name, data_dir)
        height, width, channels = builder.info.features["image"].shape
        shape = height or image_size, width or image_size, channels or 3
        levels = levels_of(builder)
    check_size(name, shape, image_size)
    return shape, levels


class Data(NamedTuple):
    name: str
    data_dir: str
    image_size: int  # the height
    split: str
    held_out: str  # "" if the data set has no such split
    flip: bool

    def open(self, split: str) -> Source:
        return source(self.name, self.data_dir, split, self.image_size)

    def declared(self) -> tuple[tuple[int, int, int], int]:
        """Shape and grey levels of images, without them."""
        return declared(self.name, self.data_dir, self.image_size)


class Folder(NamedTuple):
    """A data section with a 'path': the user's own pictures."""

    name: str
    path: str
    data_dir: str
    image_size: int
    channels: int
    background: int  # the gray behind transparent pictures
    skip_unreadable: bool
    split: str
    held_out: str
    flip: bool

    def open(self, split: str) -> Source:
        form = (self.image_size, self.channels, self.background, self.skip_unreadable)
        return folder(self.path, self.data_dir, split, *form)

    def declared(self) -> tuple[tuple[int, int, int], int]:
        """Shape and grey levels of pictures, without them."""
        return (self.image_size, self.image_size, self.channels), 256
