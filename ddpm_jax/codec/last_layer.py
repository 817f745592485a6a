"""The last layer: every pixel of x_0 given x_1, by range coding. Eq. 13 and Sec. 4.3.

Grey levels are whole numbers here. The network's x_0-hat(x_1), rounded, is the mean of a discretised
normal law whose deviation one byte of the header tells; the laws are integer tables.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8
from scipy import special

from ddpm_jax.codec.primitives import range_coder, shared_noise

SCALES = 32  # deviations 2^-4, 2^-3.75, ... of a grey level, to 13.5
PHASES = 8  # places of the mean between two levels
WINDOW = 64  # a level further from the mean than this is escaped, and told by itself
TOTAL = 1 << 16
SYMBOLS = 2 * WINDOW + 2  # an escape at either end
TABLES_SHA256 = "0d46ce00eab8a1150a19f451d7206a63342c0eff227838ae991057133dd74e40"
Grid = Int64[np.ndarray, "h w c"]  # x_0-hat, Q10
Levels = UInt8[np.ndarray, "h w c"]


@lru_cache(maxsize=1)
def tables() -> Int64[np.ndarray, "32 8 131"]:
    """Cumulative counts of 65536; every symbol has at least one."""
    deviation = 2.0 ** (np.arange(SCALES)[:, None, None] / 4 - 4)
    phase = np.arange(PHASES)[None, :, None] / PHASES
    edge = np.arange(SYMBOLS + 1) - WINDOW - 1.5
    below = special.ndtr((edge - phase) / deviation)
    below[..., 0], below[..., -1] = 0.0, 1.0
    # An even factor, so that a half is no case between two roundings.
    counts = np.round(below * (TOTAL - SYMBOLS)) + np.arange(SYMBOLS + 1)
    made = counts.astype("<i8")
    shared_noise.check_table(made, TABLES_SHA256, "the table of the last layer")
    return made


def means(grid: Grid, levels: int) -> Grid:
    """In eighths of a grey level."""
    return ((grid + 1024) * ((levels - 1) * PHASES) + 1024) >> 11


def nearest_levels(grid: Grid, levels: int) -> Levels:
    return ((means(grid, levels) + PHASES // 2) // PHASES).astype(np.uint8)


class Law(NamedTuple):
    """Of every pixel, in raster order: the row of its table, and the level that its window is about."""

    phase: Int64[np.ndarray, " d"]
    middle: Int64[np.ndarray, " d"]
    levels: int


def pixel_laws(grid: Grid, levels: int) -> Law:
    eighths = means(grid, levels).reshape(-1)
    return Law(eighths % PHASES, eighths // PHASES, levels)


def intervals(
    given: Law, scale: int, symbols: Int64[np.ndarray, " d"]
) -> tuple[Int64[np.ndarray, " d"], Int64[np.ndarray, " d"]]:
    """First and last edge of every pixel's symbol, 0 and 129 the escapes, WINDOW + 1 the middle.

    What lies beyond black and white is theirs.
    """
    table = tables()[scale]
    first, last = extremes(given)
    start = np.where(symbols == first, 0, table[given.phase, symbols])
    end = np.where(symbols == last, TOTAL, table[given.phase, symbols + 1])
    return start, end


def extremes(given: Law) -> tuple[Int64[np.ndarray, " d"], Int64[np.ndarray, " d"]]:
    """The symbols of black and white, or the escapes beyond which they are."""
    first = np.maximum(WINDOW + 1 - given.middle, 0)
    return first, np.minimum(WINDOW + given.levels - given.middle, SYMBOLS - 1)


def to_symbols(given: Law, pixels: Int64[np.ndarray, " d"]) -> Int64[np.ndarray, " d"]:
    return np.clip(pixels - given.middle + WINDOW + 1, 0, SYMBOLS - 1)


def best_scale(given: Law, pixels: Int64[np.ndarray, " d"]) -> int:
    """The deviation that makes the shortest stream."""
    symbols = to_symbols(given, pixels)

    def bits(scale: int) -> float:
        start, end = intervals(given, scale, symbols)
        return -float(np.log2((end - start) / TOTAL).sum())

    return min(range(SCALES), key=bits)


def encode(grid: Grid, image: Levels, levels: int) -> tuple[int, bytes]:
    """The scale, and the stream."""
    given, pixels = pixel_laws(grid, levels), image.reshape(-1).astype(np.int64)
    scale = best_scale(given, pixels)
    symbols = to_symbols(given, pixels)
    coder = range_coder.encoder()
    starts, ends = intervals(given, scale, symbols)
    every = zip(symbols.tolist(), starts.tolist(), ends.tolist(), strict=True)
    for place, (symbol, start, end) in enumerate(every):
        range_coder.encode(coder, start, end - start, TOTAL)
        if symbol in (0, SYMBOLS - 1):
            base, count = escape_range(symbol, int(given.middle[place]), levels)
            range_coder.encode(coder, int(pixels[place]) - base, 1, count)
    return scale, range_coder.finish(coder)


def escape_range(symbol: int, middle: int, levels: int) -> tuple[int, int]:
    """The first level that an escape stands for, and how many there are."""
    if symbol == 0:
        return 0, middle - WINDOW
    return middle + WINDOW, levels - middle - WINDOW


def decode(grid: Grid, scale: int, stream: bytes, levels: int, whole: bool) -> tuple[Levels, int]:
    """The image, and how many of its pixels are told; of the others it is the rounded mean.

    Of a stream that is not whole no pixel is taken that depends on bytes which are missing.
    """
    given = pixel_laws(grid, levels)
    found = nearest_levels(grid, levels).reshape(-1)
    coder = range_coder.decoder(stream)
    first, last = (edge.tolist() for edge in extremes(given))
    rows, middles = tables()[scale][given.phase], given.middle.tolist()
    for place in range(len(found)):
        if not whole and range_coder.is_past_end(coder):
            return found.reshape(grid.shape), place
        row = rows[place]
        symbol = int(row.searchsorted(range_coder.target(coder, TOTAL), "right")) - 1
        symbol = min(max(symbol, first[place]), last[place])
        start = 0 if symbol == first[place] else int(row[symbol])
        end = TOTAL if symbol == last[place] else int(row[symbol + 1])
        range_coder.decode(coder, start, end - start, TOTAL)
        value = middles[place] + symbol - WINDOW - 1
        if symbol in (0, SYMBOLS - 1):
            if not whole and range_coder.is_past_end(coder):
                return found.reshape(grid.shape), place
            base, count = escape_range(symbol, middles[place], levels)
            value = base + range_coder.target(coder, count)
            range_coder.decode(coder, value - base, 1, count)
        found[place] = value
    return found.reshape(grid.shape), len(found)
