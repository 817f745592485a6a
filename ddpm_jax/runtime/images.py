"""Sample grids, PNG and NPZ files."""

import io
import math

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from ddpm_jax.runtime import files

Grid = UInt8[np.ndarray, "rows columns c"]
GAP_GRAY = 96  # the gray of the lines between the images of a grid


def grid(images: UInt8[np.ndarray, "n h w c"]) -> Grid:
    """Arranges images row by row in a near-square grid with gray lines between them."""
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    lines = math.ceil(count / columns)
    gap = max(1, height // 16)
    tiled = np.full((lines, height + gap, columns, width + gap, channels), GAP_GRAY, np.uint8)
    for i, image in enumerate(images):
        tiled[i // columns, :height, i % columns, :width] = image
    raster = tiled.reshape(lines * (height + gap), columns * (width + gap), channels)
    return raster[:-gap, :-gap]


def write_png(path: epath.Path, image: Grid, enlarge: bool = True) -> None:
    """Writes a PNG, with small images enlarged by an integer factor so that viewers do not blur them.

    With 2, 3 or 4 channels it is gray with alpha, RGB or RGBA; otherwise the first channel, as gray.
    """
    if image.shape[-1] not in (2, 3, 4):
        image = image[..., 0]
    scale = max(1, 512 // max(image.shape[:2])) if enlarge else 1
    image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    files.write(path, file.getvalue())


def write_npz(path: epath.Path, images: UInt8[np.ndarray, "n h w c"]) -> None:
    """Writes images as 'arr_0', uint8 [N, H, W, C], which OpenAI's evaluator reads."""
    file = io.BytesIO()
    np.savez(file, images)
    files.write(path, file.getvalue())
