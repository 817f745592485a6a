"""The user's own pictures: a folder of them, of any sizes and forms, or one array of them.

A picture is turned upright (EXIF), laid on a background where it is transparent, cropped to the
square at its centre and resized with an antialiasing Lanczos filter; all that once, as a TFDS data set
whose name has a hash of the contents in it.
"""

import hashlib
import json
import os
from contextlib import suppress
from typing import NamedTuple

import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from ddpm_jax.datasets import arrays, library, shards
from ddpm_jax.datasets.encoding import picture, png
from ddpm_jax.runtime import console
from ddpm_jax.runtime import files as run_files

NAME = "image_folder"
LABEL = "all"  # the only label of a folder without class folders


class Pictures(NamedTuple):
    """What is in a folder: the pictures' paths in it, in the order of the data set."""

    root: epath.Path
    paths: list[str]
    others: int  # files whose names are not those of pictures

    @property
    def labels(self) -> list[str]:
        """The folders in it, or one label if a picture lies in none."""
        folders = {path.partition("/")[0] if "/" in path else "" for path in self.paths}
        return [LABEL] if "" in folders else sorted(folders)


def pictures(root: epath.Path, field: str = "data.path") -> Pictures:
    """By a hash of their names, so that any slice of the order is a fair sample; hidden files apart.

    Raises ValueError if there is no such folder or no picture in it.
    """
    if not root.is_dir():
        raise ValueError(f"{field} {root} is not a folder")
    # Pillow writes some formats, PDF among them, that it does not read.
    forms = Image.registered_extensions()
    suffixes = {suffix for suffix, form in forms.items() if form in Image.OPEN}
    names = [name for name in files(root) if not any(part[0] == "." for part in name.split("/"))]
    chosen = [name for name in names if name[name.rfind(".") :].lower() in suffixes]
    if not chosen:
        raise ValueError(f"{field} {root} holds no picture among its {len(names)} files")
    chosen.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
    return Pictures(root, chosen, len(names) - len(chosen))


def files(folder: epath.Path, prefix: str = "") -> list[str]:
    found = []
    for path in folder.iterdir():
        name = prefix + path.name
        found += files(path, f"{name}/") if path.is_dir() else [name]
    return found


def content_hash(root: epath.Path, names: list[str], cache: epath.Path) -> str:
    """A digest of names and contents; a file is read again only if its name, size or time has changed."""
    listing = hashlib.sha256(str(root.resolve()).encode())
    for name in names:
        listing.update(f"{name}\0{stamp(root / name)}\0".encode())
    known = cache / f"{listing.hexdigest()[:32]}.json"
    if known.exists():
        return json.loads(known.read_text())["content"]
    content = hashlib.sha256()
    for name in names:
        content.update(name.encode() + b"\0")
        with (root / name).open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    with suppress(PermissionError):  # what is prepared on a read-only disk is used nevertheless
        run_files.write_json(known, {"folder": str(root), "content": content.hexdigest()})
    return content.hexdigest()


def stamp(path: epath.Path) -> tuple[int, int]:
    """Size and time of change; on a disk in nanoseconds, as a file may change twice in a second."""
    if "://" in str(path):
        return path.stat().length, path.stat().mtime
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def prepared(
    root: epath.Path,
    data_dir: epath.Path,
    size: int,
    channels: int,
    background: int,
    skip_unreadable: bool,
) -> epath.Path:
    """The folder of the data set, written now if these pictures have not been written so before.

    Raises RuntimeError, naming the picture, if one cannot be read and such are not to be skipped.
    """
    cache = data_dir / NAME
    if arrays.is_array(root):
        arrays.check_exists(root)
        content = content_hash(root.parent, [root.name], cache)
        made = arrays.recipe(root, f"{NAME}/{content[:16]}-array", size, channels)
    else:
        found = pictures(root)
        content = content_hash(root, found.paths, cache)
        form = f"{size}x{channels}-on{background}" + ("-skipping" if skip_unreadable else "")
        name = f"{NAME}/{content[:16]}-{form}"
        made = recipe(found, name, size, channels, background, skip_unreadable)
    directory = shards.directory(data_dir, made)
    if not directory.exists():
        library.check_writable(data_dir)
        console.say(f"preparing {made.source} in {directory}")
    return shards.write(data_dir, made)


def recipe(
    found: Pictures, name: str, size: int, channels: int, background: int, skip_unreadable: bool
) -> shards.Recipe:
    """Image, label and path of every picture."""
    labels = found.labels

    def example(item: int):
        path = found.paths[item]
        try:
            image = picture((found.root / path).read_bytes(), size, channels, background)
        except Exception as error:  # pillow's plug-ins raise whatever they like
            if not skip_unreadable:
                raise RuntimeError(
                    f"{found.root / path} cannot be read: {error}; take it away, or add"
                    " --config.data.skip_unreadable=True"
                ) from error
            console.say(f"skipped {found.root / path}: {error}")
            return None
        label = labels[0] if labels == [LABEL] else path.partition("/")[0]
        return {"image": png(image), "label": label, "path": path}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(size, size, channels)),
            "label": tfds.features.ClassLabel(names=labels),
            "path": tfds.features.Text(),
        }
    )
    source = f"{len(found.paths)} pictures of {found.root}"
    if found.others:
        source += f"; {found.others} other files are left out"
    return shards.Recipe(name, "1.0.0", source, features, len(found.paths), example)
