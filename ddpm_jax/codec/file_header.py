"""The file: a header with its own checksum, then the payload, every prefix of which is of use.

"DJXC"  version  flags  nu  steps  model (8 bytes)  nonce  scale   each a byte but the model
height  width  channels  payload's length                         varints
CRC-32 of the pixels  [environment (4 bytes)]  CRC-16 of all that  little-endian
"""

import binascii
import zlib
from typing import NamedTuple

import numpy as np

from ddpm_jax.codec.errors import HeaderCorrupt, NotADjxFile, TruncatedStream, UnsupportedVersion

MAGIC = b"DJXC"
VERSION = 1
LOSSLESS, LOCAL = 1, 2  # flags
MAX_DIMS = 1 << 26  # pixels times channels
MAX_HEADER_SIZE = 80  # bytes that a header can have


class Header(NamedTuple):
    lossless: bool  # whether the last layer is in it
    nu: int
    steps: int
    model: bytes
    nonce: int
    scale: int
    shape: tuple[int, int, int]
    payload: int  # bytes
    pixels: int  # CRC-32 of the grey levels
    environment: bytes  # b"" of a file that is for every machine


def pack(header: Header) -> bytes:
    flags = LOSSLESS * header.lossless | LOCAL * bool(header.environment)
    fixed = bytes([VERSION, flags, header.nu, header.steps]) + header.model
    sizes = b"".join(map(varint, (*header.shape, header.payload)))
    content = MAGIC + fixed + bytes([header.nonce, header.scale]) + sizes
    content += header.pixels.to_bytes(4, "little") + header.environment
    return content + binascii.crc_hqx(content, 0).to_bytes(2, "little")


def unpack(data: bytes) -> tuple[Header, int]:
    """The header and its length. Nothing is made of what it says before its checksum has been seen.

    Raises NotADjxFile, UnsupportedVersion, HeaderCorrupt or TruncatedStream.
    """
    data = data[:MAX_HEADER_SIZE]
    if data[:4] != MAGIC[: len(data)] or not data:
        raise NotADjxFile(f"it begins {data[:4]!r}, not {MAGIC!r}: no compressed image")
    if len(data) > 4 and data[4] != VERSION:
        raise UnsupportedVersion(f"it is of version {data[4]}; this program knows {VERSION}")
    if len(data) < 18:
        raise TruncatedStream(f"{len(data)} bytes are less than its header")
    place, sizes = 18, []
    for _ in range(4):
        value, place = read_varint(data, place)
        sizes.append(value)
    pixels = int.from_bytes(data[place : place + 4], "little")
    end = place + 4 + (4 if data[5] & LOCAL else 0)
    if len(data) < end + 2:
        raise TruncatedStream(f"{len(data)} bytes are less than its header")
    if binascii.crc_hqx(data[:end], 0) != int.from_bytes(data[end : end + 2], "little"):
        raise HeaderCorrupt("its header is damaged: the checksum is another")
    header = Header(
        bool(data[5] & LOSSLESS), data[6], data[7], data[8:16], data[16], data[17],
        tuple(sizes[:3]), sizes[3], pixels, data[place + 4 : end],
    )  # fmt: skip
    check(header, data[5])
    return header, end + 2


def check(header: Header, flags: int) -> None:
    """Raises HeaderCorrupt for what no file has, though its checksum be right."""
    height, width, channels = header.shape
    if not 0 < height * width * channels <= MAX_DIMS:
        raise HeaderCorrupt(f"its images of {height}x{width}x{channels} are beyond all bounds")
    if not (8 <= header.nu <= 16 and header.steps and header.scale < 32 and flags < 4):
        raise HeaderCorrupt("its header holds numbers that no file has")


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if place >= len(data):
            raise TruncatedStream(f"{len(data)} bytes are less than its header")
        value |= (data[place] & 127) << shift
        place += 1
        if data[place - 1] < 128:
            return value, place
    raise HeaderCorrupt("its header is damaged: a number without end")


def max_file_size(dims: int) -> int:
    """Bytes that no file of an image of so many numbers is beyond."""
    return MAX_HEADER_SIZE + 40 * dims + 1024


def checksum(image: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(image).tobytes())
