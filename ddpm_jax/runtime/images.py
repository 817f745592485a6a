"""Sample grids, PNG and NPZ files."""

import io
import math

import numpy as np
from etils import epath
from jaxtyping import Int, UInt8
from PIL import Image

from ddpm_jax.runtime import files

Grid = UInt8[np.ndarray, "rows columns c"]
Places = Int[np.ndarray, "rows columns"]
GAP_GRAY = 96  # the gray of the lines between the images of a grid
EMPTY = -1  # a place without an image
WIDE = 3  # times as many columns as rows, at most, where that fills the last row
TALL = 5  # times as many rows as columns, at most, where that gives each class rows of its own
SCREEN = 768  # pixels: a grid is enlarged until it is nearly as large


def layout(count: int, classes: int = 0) -> Places:
    """Returns the numbers of the images at the places of a grid.

    The grid is near-square, row by row, and its last row is full where the count allows. If image i is of class i
    modulo 'classes' and there are enough images, each class has rows of its own.
    """
    if classes and count >= 2 * classes:
        by_class = class_rows(count, classes)
        if len(by_class) <= TALL * by_class.shape[1]:
            return by_class
    rows = range(math.isqrt(count), 0, -1)
    filling = [count // n for n in rows if count % n == 0 and count <= WIDE * n * n]
    columns = filling[0] if filling else math.ceil(math.sqrt(count))
    places = np.full(-(-count // columns) * columns, EMPTY)
    places[:count] = np.arange(count)
    return places.reshape(-1, columns)


def class_rows(count: int, classes: int) -> Places:
    """Returns a layout with the same number of rows for each class, of that number the squarest."""
    each = -(-count // classes)
    rows = min(range(1, each + 1), key=lambda n: abs(classes * n - -(-each // n)))
    columns = -(-each // rows)
    places = np.arange(classes)[:, None] + classes * np.arange(rows * columns)
    return np.where(places < count, places, EMPTY).reshape(classes * rows, columns)


def grid(images: UInt8[np.ndarray, "n h w c"], classes: int = 0) -> Grid:
    """Arranges images as 'layout' says, with gray lines between them."""
    count, height, width, channels = images.shape
    places = layout(count, classes)
    lines, columns = places.shape
    gap = max(1, height // 16)
    tiled = np.full((lines, height + gap, columns, width + gap, channels), GAP_GRAY, np.uint8)
    for line, column in np.argwhere(places != EMPTY):
        tiled[line, :height, column, :width] = images[places[line, column]]
    raster = tiled.reshape(lines * (height + gap), columns * (width + gap), channels)
    return raster[:-gap, :-gap]


def original(image: Grid) -> UInt8[np.ndarray, "y x c"]:
    """Returns a grid as it was before it was enlarged by a whole number."""
    for scale in range(math.gcd(*image.shape[:2]), 1, -1):
        if not any(side % scale for side in image.shape[:2]):
            small = image[::scale, ::scale]
            if (small.repeat(scale, axis=0).repeat(scale, axis=1) == image).all():
                return small
    return image


def write_png(path: epath.Path, image: Grid, enlarge: bool = True) -> None:
    """Writes a PNG, with small images enlarged by an integer factor so that viewers do not blur them.

    With 2, 3 or 4 channels it is gray with alpha, RGB or RGBA; otherwise the first channel, as gray.
    """
    if image.shape[-1] not in (2, 3, 4):
        image = image[..., 0]
    scale = max(1, SCREEN // max(image.shape[:2])) if enlarge else 1
    image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    files.write(path, file.getvalue())


def write_npz(path: epath.Path, images: UInt8[np.ndarray, "n h w c"]) -> None:
    """Writes images as 'arr_0', uint8 [N, H, W, C], which OpenAI's evaluator reads."""
    file = io.BytesIO()
    np.savez(file, images)
    files.write(path, file.getvalue())
