"""Pictures of more than 8 bits: what says where white is gets scaled, the rest is refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ddpm_jax.datasets.encoding import decode_upright

RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 2**16, (12, 12)).astype(np.uint16)
COLOUR = RANDOM.integers(0, 2**16, (12, 12, 3)).astype(np.uint16)


def saved(array, form):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form)
    return file.getvalue()


def png(array, kind, transparent=b""):
    """A PNG of 16 bits a value; 'kind' is 0 for gray, 2 for RGB."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(array, sample_format):
    """A TIFF of gray pixels; 'sample_format' is 1 for unsigned, 2 for signed integers, 3 for floats."""
    height, width = array.shape
    data, bits = array.tobytes(), 8 * array.itemsize
    shorts = {258: bits, 259: 1, 262: 1, 277: 1, 339: sample_format}
    longs = {256: width, 257: height, 273: 8, 278: height, 279: len(data)}
    tags = {tag: struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()}
    tags |= {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in longs.items()}
    directory = struct.pack("<H", len(tags)) + b"".join(tags[tag] for tag in sorted(tags))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + struct.pack("<I", 0)


def integers(low, high, dtype):
    return RANDOM.integers(low, high, (12, 12)).astype(dtype)


@pytest.mark.parametrize(
    "content",
    [
        saved(DEEP, "TIFF"),
        saved(DEEP.astype(">u2"), "TIFF"),
        saved(DEEP, "PNG"),
        saved(DEEP, "JPEG2000"),
        tiff(DEEP, 1),
        b"P5 12 12 65535\n" + DEEP.astype(">u2").tobytes(),
    ],
    ids=["tiff", "big-endian tiff", "png", "jpeg 2000", "plain tiff", "pgm"],
)
def test_unsigned_16_bits_are_scaled_by_their_high_byte(content):
    np.testing.assert_array_equal(np.asarray(decode_upright(content, 1, 255)), DEEP >> 8)


def test_a_pgm_of_12_bits_says_where_its_white_is():
    content = b"P5 12 12 4095\n" + (DEEP >> 4).astype(">u2").tobytes()
    np.testing.assert_allclose(decode_upright(content, 1, 255), DEEP >> 8, atol=1)


def test_16_bits_of_black_are_black():
    content = saved(np.zeros((12, 12), np.uint16), "PNG")
    assert not np.asarray(decode_upright(content, 1, 255)).any()


def test_the_transparent_level_of_16_bit_gray_is_background():
    levels = DEEP.copy()
    levels[:6] = 40000
    levels[6:] = np.where(levels[6:] == 40000, 40001, levels[6:])
    image = np.asarray(decode_upright(png(levels, 0, struct.pack(">H", 40000)), 1, 7))
    np.testing.assert_array_equal(image[:6], np.full((6, 12), 7))
    np.testing.assert_array_equal(image[6:], levels[6:] >> 8)


@pytest.mark.parametrize(
    "content, words",
    [
        (tiff(integers(-2000, 2000, "<i2"), 2), "signed integers"),
        (tiff(integers(0, 32767, "<i2"), 2), "signed integers"),
        (tiff(integers(-100, 100, "i1"), 2), "signed integers"),
        (tiff(integers(0, 100_000, "<i4"), 2), "signed integers"),
        (tiff(integers(0, 256, "<i4"), 2), "signed integers"),
        (tiff(integers(0, 2**32, "<u4"), 1), "32-bit integers"),
        (tiff(RANDOM.random((12, 12)).astype("<f4"), 3), "floating-point numbers"),
        (png(DEEP >> 4, 0), "the highest is 40"),
        (png(COLOUR, 2, struct.pack(">HHH", 1, 2, 3)), "transparent colour has 16 bits"),
        (b"", "the file is empty"),
        (b"no picture", "not in a format that Pillow reads"),
    ],
    ids=[
        "int16",
        "int16+",
        "int8",
        "int32",
        "int32-255",
        "uint32",
        "float",
        "12-in-16",
        "tRNS",
        "empty",
        "text",
    ],
)
def test_what_is_ambiguous_or_no_picture_is_refused(content, words):
    with pytest.raises(ValueError, match=words):
        decode_upright(content, 3, 255)
