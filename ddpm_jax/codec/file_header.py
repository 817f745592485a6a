"""The header of a file, with a checksum of its own. The payload follows; any prefix of it is useful.

"DJXC"  version  flags  nu  steps  model (8 bytes)  nonce  scale   a byte each, except the model
height  width  channels  payload's length                         varints
CRC-32 of the pixels  [environment (4 bytes)]  CRC-16 of everything above  little-endian
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
MAX_HEADER_SIZE = 80  # bytes


class Header(NamedTuple):
    lossless: bool  # whether it includes the last layer
    nu: int
    steps: int
    model: bytes
    nonce: int
    scale: int
    shape: tuple[int, int, int]
    payload: int  # bytes
    pixels: int  # CRC-32 of the grey levels
    environment: bytes  # b"" if it can be decoded on every machine


def pack(header: Header) -> bytes:
    flags = LOSSLESS * header.lossless | LOCAL * bool(header.environment)
    fixed = bytes([VERSION, flags, header.nu, header.steps]) + header.model
    sizes = b"".join(map(varint, (*header.shape, header.payload)))
    content = MAGIC + fixed + bytes([header.nonce, header.scale]) + sizes
    content += header.pixels.to_bytes(4, "little") + header.environment
    return content + binascii.crc_hqx(content, 0).to_bytes(2, "little")


def unpack(data: bytes) -> tuple[Header, int]:
    """Reads a header, and verifies its checksum before using what it says. Returns it and its length.

    Raises NotADjxFile, UnsupportedVersion, HeaderCorrupt or TruncatedStream.
    """
    data = data[:MAX_HEADER_SIZE]
    if data[:4] != MAGIC[: len(data)] or not data:
        raise NotADjxFile(
            f"it is not a compressed image: it begins with {data[:4]!r}, not {MAGIC!r}"
        )
    if len(data) > 4 and data[4] != VERSION:
        raise UnsupportedVersion(f"it has format version {data[4]}; this program reads {VERSION}")
    if len(data) < 18:
        raise TruncatedStream(header_cut_off(data))
    position, sizes = 18, []
    for _ in range(4):
        value, position = read_varint(data, position)
        sizes.append(value)
    pixels = int.from_bytes(data[position : position + 4], "little")
    end = position + 4 + (4 if data[5] & LOCAL else 0)
    if len(data) < end + 2:
        raise TruncatedStream(header_cut_off(data))
    if binascii.crc_hqx(data[:end], 0) != int.from_bytes(data[end : end + 2], "little"):
        raise HeaderCorrupt("its header is damaged: the checksum does not match")
    header = Header(
        lossless=bool(data[5] & LOSSLESS),
        nu=data[6],
        steps=data[7],
        model=data[8:16],
        nonce=data[16],
        scale=data[17],
        shape=tuple(sizes[:3]),
        payload=sizes[3],
        pixels=pixels,
        environment=data[position + 4 : end],
    )
    check(header, data[5])
    return header, end + 2


def check(header: Header, flags: int) -> None:
    """Raises HeaderCorrupt for numbers that no file has, even if the checksum is right."""
    height, width, channels = header.shape
    if not 0 < height * width * channels <= MAX_DIMS:
        raise HeaderCorrupt(
            f"its header is damaged: it says {height}x{width}x{channels}, and images have 1 to"
            f" {MAX_DIMS} values"
        )
    if not (8 <= header.nu <= 16 and header.steps and header.scale < 32 and flags < 4):
        raise HeaderCorrupt("its header is damaged: it holds numbers that no file has")


def header_cut_off(data: bytes) -> str:
    return f"{len(data)} bytes are less than its header"


def varint(value: int) -> bytes:
    """Encodes a whole number, seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Decodes a whole number. Returns it and the position after it."""
    value = 0
    for shift in range(0, 35, 7):
        if position >= len(data):
            raise TruncatedStream(header_cut_off(data))
        value |= (data[position] & 127) << shift
        position += 1
        if data[position - 1] < 128:
            return value, position
    raise HeaderCorrupt("its header is damaged: a number does not end")


def max_file_size(dims: int) -> int:
    """An upper bound on the bytes of a file, for an image with 'dims' dimensions."""
    return MAX_HEADER_SIZE + 40 * dims + 1024


def checksum(image: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(image).tobytes())
