"""Data sets from the user's own pictures: a folder of any sizes and formats, or one array.

Each picture is rotated by its EXIF tag, put on a background if it is transparent, cropped to the square at
its centre and resized with an antialiasing Lanczos filter. The result is stored once, as a TFDS data set
whose name contains a hash of the pictures.
"""

import hashlib
import io
import json
import os
from contextlib import suppress
from typing import Any, NamedTuple, cast

import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from ddpm_jax.datasets import arrays, library, shards
from ddpm_jax.datasets.encoding import decode_square, encode_png
from ddpm_jax.runtime import console, files

NAME = "image_folder"
LABEL = "all"  # the only label of a folder without class folders


class Pictures(NamedTuple):
    """The paths of a folder's pictures, relative to it, in the order of the data set."""

    root: epath.Path
    paths: list[str]
    others: int  # the number of files without a picture's suffix

    @property
    def labels(self) -> list[str]:
        """The names of the subfolders; LABEL alone if any picture is outside them."""
        folders = {path.partition("/")[0] if "/" in path else "" for path in self.paths}
        return [LABEL] if "" in folders else sorted(folders)


def find_pictures(root: epath.Path, field: str = "data.path") -> Pictures:
    """Finds the pictures of a folder, without hidden files.

    The order is by a hash of the names, so that any slice of it is a fair sample. Raises ValueError if
    there is no such folder or no picture in it.
    """
    if not root.is_dir():
        raise ValueError(f"{field} {root} is not a folder")
    # Pillow can write some formats, such as PDF, that it cannot read.
    formats = Image.registered_extensions()
    suffixes = {suffix for suffix, format in formats.items() if format in Image.OPEN}
    names = [
        name for name in list_files(root) if not any(part[0] == "." for part in name.split("/"))
    ]
    paths = [name for name in names if name[name.rfind(".") :].lower() in suffixes]
    if not paths:
        raise ValueError(f"{field} {root} holds no picture among its {len(names)} files")
    paths.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
    return Pictures(root, paths, len(names) - len(paths))


def list_files(folder: epath.Path, prefix: str = "") -> list[str]:
    """Lists the files of a folder and its subfolders, by their paths relative to it."""
    names = []
    for path in folder.iterdir():
        name = prefix + path.name
        names += list_files(path, f"{name}/") if path.is_dir() else [name]
    return names


def content_hash(root: epath.Path, names: list[str], cache: epath.Path) -> str:
    """Hashes names and contents; reads files only if a name, size or modification time has changed."""
    listing = hashlib.sha256(str(root.resolve()).encode())
    for name in names:
        listing.update(f"{name}\0{size_and_time(root / name)}\0".encode())
    cached = cache / f"{listing.hexdigest()[:32]}.json"
    if cached.exists():
        return json.loads(cached.read_text())["content"]
    content = hashlib.sha256()
    for name in names:
        content.update(name.encode() + b"\0")
        with (root / name).open("rb") as file:
            content.update(hashlib.file_digest(cast(io.BufferedIOBase, file), "sha256").digest())
    with suppress(PermissionError):  # a data set prepared earlier may be on a read-only disk
        files.write_json(cached, {"folder": str(root), "content": content.hexdigest()})
    return content.hexdigest()


def size_and_time(path: epath.Path) -> tuple[int, int]:
    """Size and modification time, in nanoseconds if possible: a file may change twice in a second."""
    if "://" in str(path):
        return path.stat().length, path.stat().mtime
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def prepare(
    root: epath.Path,
    data_dir: epath.Path,
    size: int,
    channels: int,
    background: int,
    skip_unreadable: bool,
) -> epath.Path:
    """Returns the folder of the data set, which is written now unless the same one has been written before.

    Raises ValueError if no picture is found; RuntimeError, unless 'skip_unreadable', if one cannot be read.
    """
    cache = data_dir / NAME
    if arrays.is_array(root):
        arrays.check_exists(root)
        content = content_hash(root.parent, [root.name], cache)
        data_set = arrays.recipe(root, f"{NAME}/{content[:16]}-array", size, channels)
    else:
        pictures = find_pictures(root)
        content = content_hash(root, pictures.paths, cache)
        form = f"{size}x{channels}-on{background}" + ("-skipping" if skip_unreadable else "")
        name = f"{NAME}/{content[:16]}-{form}"
        data_set = recipe(pictures, name, size, channels, background, skip_unreadable)
    directory = shards.directory(data_dir, data_set)
    if not directory.exists():
        library.check_writable(data_dir)
        console.say(f"preparing {data_set.source} in {directory}")
    return shards.write(data_dir, data_set)


def recipe(
    pictures: Pictures, name: str, size: int, channels: int, background: int, skip_unreadable: bool
) -> shards.Recipe:
    """Stores the image, label and path of every picture."""
    root, paths, labels = pictures.root, pictures.paths, pictures.labels

    def example(item: int) -> dict[str, Any] | None:
        path = paths[item]
        try:
            image = decode_square((root / path).read_bytes(), size, channels, background)
        except Exception as error:  # pillow's plug-ins raise exceptions of all kinds
            if not skip_unreadable:
                raise RuntimeError(
                    f"{root / path} cannot be read: {error}; remove it, or add"
                    " --config.data.skip_unreadable=True"
                ) from error
            console.say(f"skipped {root / path}: {error}")
            return None
        label = labels[0] if labels == [LABEL] else path.partition("/")[0]
        return {"image": encode_png(image), "label": label, "path": path}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(size, size, channels)),
            "label": tfds.features.ClassLabel(names=labels),
            "path": tfds.features.Text(),
        }
    )
    source = f"{len(paths)} pictures of {root}"  # a resumed preparation compares this text
    if pictures.others:
        source += f"; {pictures.others} other files are left out"
    return shards.Recipe(
        name=name,
        version="1.0.0",
        source=source,
        features=features,
        count=len(paths),
        example=example,
    )
