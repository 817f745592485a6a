"""The user's own pictures: a folder of them, of any sizes and forms, as a TFDS data set.

Every picture is turned upright (EXIF), laid on a background where it is transparent, cropped to the
square at its centre and resized with an antialiasing Lanczos filter; all that once, into ArrayRecord.
"""

import hashlib
import io
import json
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image, ImageOps

from ddpm_jax import report, workdir
from ddpm_jax.datasets import shards
from ddpm_jax.datasets.encoding import png

Image.MAX_IMAGE_PIXELS = 2**29  # twice that is an error; pillow's own bound refuses large scans
LABEL = "all"  # the one label where there are no folders of classes


class Pictures(NamedTuple):
    """What is in a folder: the pictures' paths in it, in the order of the data set."""

    root: epath.Path
    paths: list[str]
    others: int  # files that are no pictures by their names

    @property
    def labels(self) -> list[str]:
        """The folders in it, or one label if a picture lies in none."""
        folders = {path.partition("/")[0] if "/" in path else "" for path in self.paths}
        return [LABEL] if "" in folders else sorted(folders)


def pictures(root: epath.Path) -> Pictures:
    """By a hash of their names, so that any slice of the order is a fair sample; hidden files apart.

    Raises ValueError if there is no such folder or no picture in it.
    """
    if not root.is_dir():
        raise ValueError(f"data.path {root} is no folder")
    # Pillow writes some formats, PDF among them, that it does not read.
    forms = Image.registered_extensions()
    suffixes = {suffix for suffix, form in forms.items() if form in Image.OPEN}
    names = [name for name in files(root) if not any(part[0] == "." for part in name.split("/"))]
    chosen = [name for name in names if name[name.rfind(".") :].lower() in suffixes]
    if not chosen:
        raise ValueError(f"data.path {root} holds no picture among its {len(names)} files")
    chosen.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
    return Pictures(root, chosen, len(names) - len(chosen))


def files(folder: epath.Path, prefix: str = "") -> list[str]:
    found = []
    for path in folder.iterdir():
        name = prefix + path.name
        found += files(path, f"{name}/") if path.is_dir() else [name]
    return found


def content_hash(found: Pictures, cache: epath.Path) -> str:
    """Of all names and contents. Read anew only where a name, size or time of change is another."""
    listing = hashlib.sha256(str(found.root.resolve()).encode())
    for name in found.paths:
        status = (found.root / name).stat()
        listing.update(f"{name}\0{status.length}\0{status.mtime}\0".encode())
    known = cache / f"{listing.hexdigest()[:32]}.json"
    if known.exists():
        return json.loads(known.read_text())["content"]
    content = hashlib.sha256()
    for name in found.paths:
        content.update(name.encode() + b"\0")
        content.update(hashlib.sha256((found.root / name).read_bytes()).digest())
    workdir.write_json(known, {"folder": str(found.root), "content": content.hexdigest()})
    return content.hexdigest()


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
    found = pictures(root)
    content = content_hash(found, data_dir / "image_folder")
    form = f"{size}x{channels}-on{background}" + ("-skipping" if skip_unreadable else "")
    directory = data_dir / "image_folder" / f"{content[:16]}-{form}" / "1.0.0"
    if directory.exists():
        return directory
    report.say(
        f"preparing {len(found.paths)} pictures of {root} in {directory}"
        + (f"; {found.others} other files are left out" if found.others else "")
    )
    shards.write(directory, recipe(found, size, channels, background, skip_unreadable))
    return directory


def recipe(
    found: Pictures, size: int, channels: int, background: int, skip_unreadable: bool
) -> shards.Recipe:
    """Image, label and path of every picture."""
    labels = found.labels

    def example(item: int):
        name = found.paths[item]
        path = found.root / name
        try:
            image = picture(path.read_bytes(), size, channels, background)
        except Exception as error:  # pillow's plug-ins raise whatever they like
            if not skip_unreadable:
                raise RuntimeError(
                    f"{path} cannot be read: {error}; take it away, or add"
                    " --config.data.skip_unreadable=True"
                ) from error
            report.say(f"skipped {path}: {error}")
            return None
        label = labels[0] if labels == [LABEL] else name.partition("/")[0]
        return {"image": png(image), "label": label, "path": name}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(size, size, channels)),
            "label": tfds.features.ClassLabel(names=labels),
            "path": tfds.features.Text(),
        }
    )
    description = f"The pictures of {found.root}, {size}x{size}"
    return shards.Recipe("image_folder", description, features, len(found.paths), example)


def picture(content: bytes, size: int, channels: int, background: int) -> np.ndarray:
    """The square at a picture's centre, [size, size] or [size, size, 3]; small ones are enlarged."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode == "F":
        raise ValueError("its grey levels are floating-point numbers of no known range")
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off, not scale
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, (background,) * 3 + (255,))
        image = Image.alpha_composite(behind, image)
    image = image.convert("RGB" if channels == 3 else "L")
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    box = (left, top, left + side, top + side)
    # Not resize(box=...): its filter reaches beyond the box.
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.LANCZOS))
