"""Images that are rows of an array: .npy, or .npz as NumPy or the OpenAI evaluators write it."""

import zipfile

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from ddpm_jax.datasets import shards
from ddpm_jax.datasets.encoding import png


def is_array(path: epath.Path) -> bool:
    return path.suffix.lower() in (".npy", ".npz")


def check_exists(path: epath.Path, field: str = "data.path") -> None:
    if not path.is_file():
        raise ValueError(f"{field} {path} does not exist")


def images_and_labels(
    path: epath.Path, field: str = "data.path"
) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 [n, h, w, c] of 1 or 3 channels; of an .npz also the integers that are as many.

    Raises ValueError, saying what is there instead.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        found = {"": found} if isinstance(found, np.ndarray) else dict(found)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{field} {path} is not a file of NumPy arrays: {error}") from error
    several = [name for name, value in found.items() if value.ndim in (3, 4)]
    if len(several) != 1:
        raise ValueError(
            f"{field} {path} holds {len(several)} arrays of images"
            f" ({', '.join(several) or 'none'}) among {list(found)}; it must be one"
        )
    images = found[several[0]]
    if images.dtype != np.uint8:
        raise ValueError(f"{field} {path} is of {images.dtype}; images must be uint8, 0..255")
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"{field} {path} is of shape {images.shape};"
            " it must be [n, h, w], [n, h, w, 1] or [n, h, w, 3]"
        )
    integers = [
        value
        for value in found.values()
        if value.shape == (len(images),) and value.dtype.kind in "iu" and value.min() >= 0
    ]
    return images, integers[0] if len(integers) == 1 else None


def recipe(path: epath.Path, name: str, size: int, channels: int) -> shards.Recipe:
    """The images as they are, in a random order, so that any slice of it is a fair sample.

    Raises ValueError if they are not of height 'size' and of so many channels.
    """
    images, labels = images_and_labels(path)
    for field, wanted, there in (
        ("image_size", size, images.shape[1]),
        ("channels", channels, images.shape[3]),
    ):
        if wanted != there:
            raise ValueError(
                f"data.{field} is {wanted}, but the images of {path} are of shape"
                f" {images.shape[1:]}, and are used as they are: --config.data.{field}={there}"
            )
    order = np.random.default_rng(0).permutation(len(images))

    def example(item: int):
        row = int(order[item])
        label = {} if labels is None else {"label": int(labels[row])}
        return {"image": png(np.asarray(images[row])), "row": row} | label

    features = {"image": tfds.features.Image(shape=images.shape[1:]), "row": np.int64}
    if labels is not None:
        features["label"] = tfds.features.ClassLabel(num_classes=int(labels.max()) + 1)
    described = tfds.features.FeaturesDict(features)
    source = f"{len(images)} images of {path}"
    return shards.Recipe(name, "1.0.0", source, described, len(images), example)
