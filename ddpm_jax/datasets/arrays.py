"""Data sets from arrays of images: .npy files, or .npz files as NumPy or OpenAI's evaluator write them."""

import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from ddpm_jax.datasets import shards
from ddpm_jax.datasets.encoding import encode_png
from ddpm_jax.runtime import paths

LABEL_NAMES = ("label", "labels", "y")


def is_array(path: epath.Path) -> bool:
    return path.suffix.lower() in (".npy", ".npz")


def check_exists(path: epath.Path, field: str = "data.path") -> None:
    if not paths.is_file(path):
        problem = "is not a file" if path.exists() else "does not exist"
        raise ValueError(f"{field} {path} {problem}")


def read_images(path: epath.Path, field: str = "data.path") -> tuple[np.ndarray, np.ndarray | None]:
    """Returns uint8 images [n, h, w, 1 or 3] and, of an .npz, the labels or None; see find_labels.

    Raises ValueError for a file with anything else, and says what it holds.
    """
    try:
        content = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = {"": content} if isinstance(content, np.ndarray) else dict(content)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{field} {path} is not a file of NumPy arrays: {error}") from error
    image_names = [name for name, value in arrays.items() if value.ndim in (3, 4)]
    if len(image_names) != 1:
        raise ValueError(
            f"{field} {path} holds {len(image_names)} arrays of images"
            f" ({', '.join(image_names) or 'none'}) among {list(arrays)}; it must hold exactly one"
        )
    images = check_images(arrays[image_names[0]], f"{field} {path}")
    return images, find_labels(arrays, len(images), f"{field} {path}")


def check_images(images: np.ndarray, source: str) -> np.ndarray:
    """Returns images with an axis of channels. Raises ValueError unless they are uint8, gray or RGB."""
    if images.dtype != np.uint8:
        raise ValueError(f"{source} has dtype {images.dtype}; images must be uint8, 0..255")
    with_channels = images[..., None] if images.ndim == 3 else images
    if with_channels.ndim != 4 or with_channels.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(
            f"{source} has shape {with_channels.shape};"
            " it must be [n, h, w], [n, h, w, 1] or [n, h, w, 3]"
        )
    return with_channels


def find_labels(arrays: Mapping[str, np.ndarray], count: int, source: str) -> np.ndarray | None:
    """Returns the array of 'count' integers, [n] or [n, 1], or None without one.

    Of several, it is the one with a name of LABEL_NAMES. Raises ValueError if that does not decide.
    """
    found = {
        name: value.reshape(count)
        for name, value in arrays.items()
        if value.shape in ((count,), (count, 1)) and value.dtype.kind in "iu" and value.min() >= 0
    }
    named = [name for name in found if name.lower() in LABEL_NAMES]
    if len(found) > 1 and len(named) != 1:
        raise ValueError(
            f"{source} holds {len(found)} arrays that may be labels ({', '.join(found)}); name one of"
            " them 'labels', or remove the others"
        )
    chosen = named if named else list(found)
    return found[chosen[0]] if chosen else None


def recipe(path: epath.Path, name: str, size: int, channels: int) -> shards.Recipe:
    """Stores the images unchanged, in a random order, so that any slice of it is a fair sample.

    Raises ValueError if their height is not 'size', or their number of channels differs.
    """
    images, labels = read_images(path)
    for field, expected, actual in (
        ("image_size", size, images.shape[1]),
        ("channels", channels, images.shape[3]),
    ):
        if expected != actual:
            raise ValueError(
                f"data.{field} is {expected}, but the images of {path} have shape"
                f" {images.shape[1:]} and are not resized; set --config.data.{field}={actual}"
            )
    order = np.random.default_rng(0).permutation(len(images))

    def example(item: int) -> dict[str, Any]:
        row = int(order[item])
        label = {} if labels is None else {"label": int(labels[row])}
        return {"image": encode_png(np.asarray(images[row])), "row": row} | label

    features: dict[str, Any] = {
        "image": tfds.features.Image(shape=images.shape[1:]),
        "row": np.int64,
    }
    if labels is not None:
        features["label"] = tfds.features.ClassLabel(num_classes=int(labels.max()) + 1)
    return shards.Recipe(
        name=name,
        version="1.0.0",
        source=f"{len(images)} images of {path}",
        features=tfds.features.FeaturesDict(features),
        count=len(images),
        example=example,
    )
