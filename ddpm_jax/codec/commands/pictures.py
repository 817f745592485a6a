"""Picture files in and out: which there are, and grey levels to the bytes that they are written with."""

import io
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from ddpm_jax.codec import image_file
from ddpm_jax.datasets import pixels as pixel_values
from ddpm_jax.runtime import images

SUFFIXES = (".png",)
COMPRESSED = ".djx"
Levels = UInt8[np.ndarray, "h w c"]


def find_files(given: Sequence[str], suffixes: Sequence[str]) -> list[epath.Path]:
    """Files as they are named, and a folder's with one of the suffixes. Raises ValueError if there is none."""
    found = []
    for name in given:
        path = epath.Path(name)
        if path.is_dir():
            found += sorted(each for each in path.iterdir() if each.suffix.lower() in suffixes)
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"--input {name} does not exist")
    if not found:
        raise ValueError(f"--input {','.join(given)} holds no {' or '.join(suffixes)} file")
    return found


def read(path: epath.Path, shape: tuple[int, int, int], levels: int) -> Levels:
    """A picture's grey levels. Raises ValueError, naming the file, if it is none of the model's."""
    try:
        picture = Image.open(io.BytesIO(path.read_bytes()))
        size, bands, mode = picture.size, len(picture.getbands()), picture.mode
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no picture: {error}") from error
    # Before a pixel is decoded: a small file can claim a large picture.
    there = (size[1], size[0], bands)
    if there != shape or mode not in ("L", "LA", "RGB", "RGBA"):
        raise ValueError(
            f"{path} is {image_file.shape_text(there)}, mode {mode}; this model's images are"
            f" {image_file.shape_text(shape)} of 8 bits"
        )
    try:
        pixels = np.asarray(picture).reshape(shape)
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return unstretch(path, pixels, levels)


def unstretch(path: epath.Path, pixels: Levels, levels: int) -> Levels:
    """0..255 to 0..levels - 1. Raises ValueError for a value between two of them."""
    written = pixel_values.stretch(np.arange(levels)[None, None, None], levels).reshape(-1)
    found = np.minimum(np.searchsorted(written, pixels), levels - 1)
    wrong = pixels[written[found] != pixels]
    if len(wrong):
        raise ValueError(
            f"{path} has the value {wrong[0]}; this model's images have {levels} grey levels,"
            f" written as {written[0]}, {written[1]}, ... {written[-1]}"
        )
    return found.astype(np.uint8)


def write(path: epath.Path, image: Levels, levels: int) -> None:
    images.write_png(path, pixel_values.stretch(image[None], levels)[0], enlarge=False)
