"""The last layer: range-codes every pixel of x_0 given x_1. Eq. 13 and Sec. 4.3.

Grey levels are integers here. The network's x_0-hat(x_1), rounded, is the mean of a discretized normal
law, whose deviation is one byte of the header. The laws are integer tables.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8
from scipy import special

from ddpm_jax.codec.primitives import range_coder, shared_noise

SCALES = 32  # deviations 2^-4, 2^-3.75, ... of a grey level, to 13.5
PHASES = 8  # positions of the mean between two levels
WINDOW = 64  # a level further from the mean than this is an escape, and coded uniformly
TOTAL = 1 << 16
SYMBOLS = 2 * WINDOW + 2  # an escape at each end
TABLES_SHA256 = "0d46ce00eab8a1150a19f451d7206a63342c0eff227838ae991057133dd74e40"
Grid = Int64[np.ndarray, "h w c"]  # x_0-hat, Q10
Levels = UInt8[np.ndarray, "h w c"]


@lru_cache(maxsize=1)
def tables() -> Int64[np.ndarray, "32 8 131"]:
    """Cumulative counts out of 65536; every symbol has at least one."""
    deviation = 2.0 ** (np.arange(SCALES)[:, None, None] / 4 - 4)
    phase = np.arange(PHASES)[None, :, None] / PHASES
    edge = np.arange(SYMBOLS + 1) - WINDOW - 1.5
    below = special.ndtr((edge - phase) / deviation)
    below[..., 0], below[..., -1] = 0.0, 1.0
    # The factor is even, so a probability of one half is not on a rounding boundary.
    counts = np.round(below * (TOTAL - SYMBOLS)) + np.arange(SYMBOLS + 1)
    table = counts.astype("<i8")
    shared_noise.check_table(table, TABLES_SHA256, "the table of the last layer")
    return table


def means(grid: Grid, levels: int) -> Grid:
    """Returns x_0-hat in eighths of a grey level."""
    return ((grid + 1024) * ((levels - 1) * PHASES) + 1024) >> 11


def nearest_levels(grid: Grid, levels: int) -> Levels:
    return ((means(grid, levels) + PHASES // 2) // PHASES).astype(np.uint8)


class PixelLaws(NamedTuple):
    """The law of each pixel, in raster order: the row of its table, and the level in the middle of its window."""

    phase: Int64[np.ndarray, " d"]
    middle: Int64[np.ndarray, " d"]
    levels: int


def pixel_laws(grid: Grid, levels: int) -> PixelLaws:
    eighths = means(grid, levels).reshape(-1)
    return PixelLaws(eighths % PHASES, eighths // PHASES, levels)


def intervals(
    laws: PixelLaws, scale: int, symbols: Int64[np.ndarray, " d"]
) -> tuple[Int64[np.ndarray, " d"], Int64[np.ndarray, " d"]]:
    """Start and end of each pixel's symbol, where 0 and 129 are the escapes and WINDOW + 1 is the middle.

    Black and white also get the mass beyond them.
    """
    table = tables()[scale]
    first, last = extremes(laws)
    start = np.where(symbols == first, 0, table[laws.phase, symbols])
    end = np.where(symbols == last, TOTAL, table[laws.phase, symbols + 1])
    return start, end


def extremes(laws: PixelLaws) -> tuple[Int64[np.ndarray, " d"], Int64[np.ndarray, " d"]]:
    """The symbols of black and white, or the escapes that stand for them."""
    first = np.maximum(WINDOW + 1 - laws.middle, 0)
    return first, np.minimum(WINDOW + laws.levels - laws.middle, SYMBOLS - 1)


def to_symbols(laws: PixelLaws, pixels: Int64[np.ndarray, " d"]) -> Int64[np.ndarray, " d"]:
    return np.clip(pixels - laws.middle + WINDOW + 1, 0, SYMBOLS - 1)


def best_scale(laws: PixelLaws, pixels: Int64[np.ndarray, " d"]) -> int:
    """Returns the deviation with the shortest stream."""
    symbols = to_symbols(laws, pixels)

    def bits(scale: int) -> float:
        start, end = intervals(laws, scale, symbols)
        return -float(np.log2((end - start) / TOTAL).sum())

    return min(range(SCALES), key=bits)


def encode(grid: Grid, image: Levels, levels: int) -> tuple[int, bytes]:
    """Encodes the pixels. Returns the scale and the stream."""
    laws, pixels = pixel_laws(grid, levels), image.reshape(-1).astype(np.int64)
    scale = best_scale(laws, pixels)
    symbols = to_symbols(laws, pixels)
    coder = range_coder.encoder()
    starts, ends = intervals(laws, scale, symbols)
    rows = zip(symbols.tolist(), starts.tolist(), ends.tolist(), strict=True)
    for i, (symbol, start, end) in enumerate(rows):
        range_coder.encode(coder, start, end - start, TOTAL)
        if symbol in (0, SYMBOLS - 1):
            base, count = escape_range(symbol, int(laws.middle[i]), levels)
            range_coder.encode(coder, int(pixels[i]) - base, 1, count)
    return scale, range_coder.finish(coder)


def escape_range(symbol: int, middle: int, levels: int) -> tuple[int, int]:
    """Returns the first level that an escape stands for, and the number of levels."""
    if symbol == 0:
        return 0, middle - WINDOW
    return middle + WINDOW, levels - middle - WINDOW


def decode(grid: Grid, scale: int, stream: bytes, levels: int, whole: bool) -> tuple[Levels, int]:
    """Decodes the pixels. Returns the image, and how many pixels were decoded; the others are rounded means.

    If the stream is not whole, decoding stops at the first pixel that depends on missing bytes.
    """
    laws = pixel_laws(grid, levels)
    pixels = nearest_levels(grid, levels).reshape(-1)
    coder = range_coder.decoder(stream)
    first, last = (edge.tolist() for edge in extremes(laws))
    rows, middles = tables()[scale][laws.phase], laws.middle.tolist()
    for i in range(len(pixels)):
        if not whole and range_coder.is_past_end(coder):
            return pixels.reshape(grid.shape), i
        row = rows[i]
        symbol = int(row.searchsorted(range_coder.target(coder, TOTAL), "right")) - 1
        symbol = min(max(symbol, first[i]), last[i])
        start = 0 if symbol == first[i] else int(row[symbol])
        end = TOTAL if symbol == last[i] else int(row[symbol + 1])
        range_coder.decode(coder, start, end - start, TOTAL)
        value = middles[i] + symbol - WINDOW - 1
        if symbol in (0, SYMBOLS - 1):
            if not whole and range_coder.is_past_end(coder):
                return pixels.reshape(grid.shape), i
            base, count = escape_range(symbol, middles[i], levels)
            value = base + range_coder.target(coder, count)
            range_coder.decode(coder, value - base, 1, count)
        pixels[i] = value
    return pixels.reshape(grid.shape), len(pixels)
