"""Finds, reads and writes picture files, and converts grey levels to and from the values stored in them."""

from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from ddpm_jax.codec import image_file
from ddpm_jax.datasets import encoding
from ddpm_jax.datasets import pixels as pixel_values
from ddpm_jax.runtime import images
from ddpm_jax.runtime import paths as user_paths

SUFFIXES = (".png",)
COMPRESSED = ".djx"
Levels = UInt8[np.ndarray, "h w c"]


def find_files(names: Sequence[str], suffixes: Sequence[str]) -> list[epath.Path]:
    """Lists the named files, and the files in the named folders that have one of the suffixes.

    Raises ValueError if there are no such files.
    """
    paths = []
    for name in names:
        path = epath.Path(name)
        if path.is_dir():
            named = sorted(each for each in path.iterdir() if each.suffix.lower() in suffixes)
            paths += [check_file(each) for each in named]
        else:
            paths.append(check_file(path))
    if not paths:
        raise ValueError(f"--input: {','.join(names)} holds no {' or '.join(suffixes)} file")
    return paths


def check_file(path: epath.Path) -> epath.Path:
    """Returns the path of a file. Raises ValueError if it does not exist, or is a pipe, say."""
    if not user_paths.is_file(path):
        problem = "is not a file" if path.exists() else "does not exist"
        raise ValueError(f"--input: {path} {problem}")
    return path


def read(path: epath.Path, shape: tuple[int, int, int], levels: int) -> Levels:
    """Reads a picture's grey levels. Raises ValueError if it does not have the model's shape and grey levels."""
    try:
        picture = encoding.open_picture(path.read_bytes())
        size, bands, mode = picture.size, len(picture.getbands()), picture.mode
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a picture: {error}") from error
    # Checked before any pixel is decoded, since a small file can claim a large picture.
    actual = (size[1], size[0], bands)
    mode += ", 16 bits a value" * encoding.has_16_bits(picture)
    mode += ", a transparent colour" * ("transparency" in picture.info)
    if actual != shape or mode not in ("L", "LA", "RGB", "RGBA"):
        raise ValueError(
            f"{path} is {image_file.shape_text(actual)}, mode {mode}; this model's images are"
            f" {image_file.shape_text(shape)}, with 8 bits a value"
        )
    try:
        pixels = np.asarray(picture).reshape(shape)
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return unstretch(path, pixels, levels)


def unstretch(path: epath.Path, pixels: Levels, levels: int) -> Levels:
    """Converts 0..255 to 0..levels - 1. Raises ValueError for a value between two levels."""
    values = pixel_values.stretch(np.arange(levels)[None, None, None], levels).reshape(-1)
    result = np.minimum(np.searchsorted(values, pixels), levels - 1)
    wrong = pixels[values[result] != pixels]
    if len(wrong):
        raise ValueError(
            f"{path} has the value {wrong[0]}; this model's images have {levels} grey levels,"
            f" stored as {values[0]}, {values[1]}, ... {values[-1]}"
        )
    return result.astype(np.uint8)


def write(path: epath.Path, image: Levels, levels: int) -> None:
    images.write_png(path, pixel_values.stretch(image[None], levels)[0], enlarge=False)
