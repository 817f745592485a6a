"""Data sets from the user's own pictures: a folder of any sizes and formats, or one array.

Each picture is rotated by its EXIF tag, put on a background if it is transparent, cropped to the square at
its centre and resized with an antialiasing Lanczos filter. The result is stored once, as a TFDS data set
whose name contains a hash of the pictures.
"""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from ddpm_jax.datasets import arrays, class_names, contents, library, shards, splits
from ddpm_jax.datasets.encoding import decode_square, encode_png
from ddpm_jax.datasets.expected import Expected
from ddpm_jax.datasets.listing import Listing, escape, holds_run, list_files
from ddpm_jax.runtime import console

NAME = "image_folder"
LEVELS = 256
LABEL = "all"  # the only label of a folder without class folders


class Pictures(NamedTuple):
    """The paths of a folder's pictures, relative to it, in the order of the data set."""

    root: epath.Path
    paths: list[str]
    listing: Listing

    @property
    def others(self) -> int:
        """The number of files without a picture's suffix."""
        return len(self.listing.files) - len(self.paths)

    @property
    def folders(self) -> list[str]:
        """The names of the subfolders that hold pictures."""
        return sorted({path.partition("/")[0] for path in self.paths if "/" in path})

    @property
    def stray(self) -> str:
        """A picture beside the class folders, or ""."""
        outside = [path for path in self.paths if "/" not in path]
        return min(outside) if outside and self.folders else ""

    def classes(self, labels: Sequence[str] | None = ()) -> list[str]:
        """Returns the class folders in the order of their labels; none if any picture is outside them.

        'labels' is as in class_names.order.
        """
        if self.stray or not self.folders:
            return []
        class_names.check_distinct(self.folders)
        return class_names.order(self.folders, labels)


def find_pictures(
    root: epath.Path, field: str = "data.path", excluded: Collection[epath.Path] = ()
) -> Pictures:
    """Finds the pictures of a folder, without hidden files and what 'list_files' leaves out.

    The order is by a hash of the names, so that any slice of it is a fair sample. Raises ValueError if
    there is no such folder or no picture in it.
    """
    if not root.is_dir():
        raise ValueError(f"{field} {root} is not a folder")
    if holds_run(str(root)):
        raise ValueError(
            f"{field} {root} is the folder of a run, with pictures of its own; move yours"
        )
    # Pillow can write some formats, such as PDF, that it cannot read.
    formats = Image.registered_extensions()
    suffixes = {suffix for suffix, format in formats.items() if format in Image.OPEN}
    listing = list_files(root, excluded)
    paths = [name for name in listing.files if name[name.rfind(".") :].lower() in suffixes]
    if not paths:
        if listing.unreadable:
            raise ValueError(f"{field} {root / listing.unreadable[0]} may not be read")
        raise ValueError(f"{field} {root} holds no picture among its {len(listing.files)} files")
    paths.sort(key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return Pictures(root, paths, listing)


def prepare(
    root: epath.Path,
    data_dir: epath.Path,
    size: int,
    channels: int,
    background: int,
    skip_unreadable: bool,
    expected: Expected | None = None,
) -> epath.Path:
    """Returns the folder of the data set, which is written now unless the same one has been written before.

    Raises ValueError if no picture is found, or they are not as 'expected' by a run; RuntimeError,
    unless 'skip_unreadable', if one cannot be read.
    """
    if arrays.is_array(root):
        arrays.check_exists(root)
        data_set, notes = arrays.recipe(root, NAME, size, channels), []
        base, paths, form = root.parent, [root.name], "array"
    else:
        pictures = find_pictures(root, excluded=own_folders(data_dir))
        check_readable(pictures, skip_unreadable)
        classes = pictures.classes(expected.labels if expected else ())
        data_set = recipe(pictures, classes, size, channels, background, skip_unreadable)
        notes = describe(pictures, classes)
        base, paths = root, pictures.paths
        form = f"{size}x{channels}-on{background}" + ("-skipping" if skip_unreadable else "")
        if classes != sorted(classes):  # the order of earlier versions
            form += "-natural"
    if expected:
        shape = cast(tuple[int, int, int], data_set.features["image"].shape)
        expected.check(str(root), shape, LEVELS, library.label_names(data_set.features))
    content = contents.read(base, paths, data_dir / NAME)
    data_set = data_set._replace(name=f"{NAME}/{content.hash[:16]}-{form}")
    directory = shards.directory(data_dir, data_set)
    if not directory.exists():
        library.check_writable(data_dir)
        console.say(f"preparing {data_set.source} in {directory}")
        for note in [*notes, *content.describe(len(paths))]:
            console.say(note)
    return shards.write(data_dir, data_set)


def own_folders(data_dir: epath.Path) -> tuple[epath.Path, epath.Path]:
    """Returns the folders to leave out of data.path, which may be data_dir itself."""
    return data_dir, data_dir / NAME


def check(root: epath.Path, data_dir: epath.Path, fields: Mapping[str, str], classes: int) -> None:
    """Checks a folder before it is prepared.

    Raises ValueError if it has no labels for a network of 'classes' classes, or if a split is empty;
    'fields' maps names of config fields to splits.
    """
    if arrays.is_array(root):
        return
    pictures = find_pictures(root, excluded=own_folders(data_dir))
    if classes and pictures.stray:
        raise ValueError(
            f"{escape(str(pictures.root / pictures.stray))} lies beside the class folders, so that"
            " there are no labels; move or remove it, or set --config.model.classes=0"
        )
    pictures.classes()
    splits.check(fields, len(pictures.paths), str(root))


def count(root: epath.Path, data_dir: epath.Path, split: str) -> int | None:
    """Returns the number of pictures in a split of a folder; None for an array, or without such a folder."""
    if arrays.is_array(root) or not root.is_dir():
        return None
    return splits.count(split, len(find_pictures(root, excluded=own_folders(data_dir)).paths))


def check_readable(pictures: Pictures, skip_unreadable: bool) -> None:
    """Raises ValueError for a folder that may not be read, unless 'skip_unreadable'."""
    folders = pictures.listing.unreadable
    if folders and not skip_unreadable:
        raise ValueError(
            f"data.path {escape(str(pictures.root / folders[0]))} may not be read; change its"
            " permissions, or add --config.data.skip_unreadable=True"
        )


def describe(pictures: Pictures, classes: Sequence[str]) -> list[str]:
    """Returns lines about a folder: its labels, and what is left out."""
    notes = pictures.listing.describe()
    if pictures.stray:
        notes.append(f"no labels: {escape(pictures.stray)} lies beside class folders")
    elif classes:
        notes.append(f"labels   {class_names.table([class_names.of_folder(c) for c in classes])}")
    return notes


def recipe(
    pictures: Pictures,
    classes: Sequence[str],
    size: int,
    channels: int,
    background: int,
    skip_unreadable: bool,
) -> shards.Recipe:
    """Stores the image, label and path of every picture."""
    root, paths = pictures.root, pictures.paths
    labels = {folder: class_names.of_folder(folder) for folder in classes}

    def example(item: int) -> dict[str, Any] | None:
        path = paths[item]
        try:
            image = decode_square((root / path).read_bytes(), size, channels, background)
        except Exception as error:  # pillow's plug-ins raise exceptions of all kinds
            report_unreadable(root / path, error, skip_unreadable)
            return None
        label = labels[path.partition("/")[0]] if labels else LABEL
        return {"image": encode_png(image), "label": label, "path": escape(path)}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(size, size, channels)),
            "label": tfds.features.ClassLabel(names=list(labels.values()) or [LABEL]),
            "path": tfds.features.Text(),
        }
    )
    # A resumed preparation compares this text.
    source = f"{len(paths)} pictures of {escape(str(root))}"
    if pictures.others:
        source += f"; {pictures.others} other files are left out"
    return shards.Recipe(
        name=NAME,
        version="1.0.0",
        source=source,
        features=features,
        count=len(paths),
        example=example,
    )


def report_unreadable(path: epath.Path, error: Exception, skip: bool) -> None:
    """Prints that a picture is skipped if 'skip', else raises RuntimeError."""
    name, reason = escape(str(path)), getattr(error, "strerror", None) or error
    if not skip:
        raise RuntimeError(
            f"{name} cannot be read: {reason}; remove it, or add --config.data.skip_unreadable=True"
        ) from error
    console.say(f"skipped {name}: {reason}")
