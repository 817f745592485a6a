"""The header of an archive: all sizes, and the name, checksum and storage method of each image.

"DJXA"  version  flags  nu  steps  model (8 bytes)                        a byte each, except the model
height  width  channels  images  directory's length  payload's length    varints
CRC-32 of the laws  [environment (4 bytes)]                               little-endian
directory: CRC-32 of the pixels of every image; a bit per image, set if it is stored as in a file of its own,
           and for each of those nonce, scale, length; the names, deflated, or nothing
CRC-32 of everything above
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ddpm_jax.codec import file_header
from ddpm_jax.codec.errors import HeaderCorrupt, NotADjxFile, TruncatedStream, UnsupportedVersion
from ddpm_jax.codec.file_header import LOCAL, read_varint, varint

MAGIC = b"DJXA"
VERSION = 1
MAX_HEADER_SIZE = 64  # bytes before the directory
MAX_NAME_SIZE = 200  # bytes


class Standalone(NamedTuple):
    """An image stored as in a file of its own, without the header."""

    nonce: int
    scale: int
    size: int  # bytes


class Entry(NamedTuple):
    name: str  # "" if it has no name
    pixels: int  # CRC-32 of the grey levels
    standalone: Standalone | None  # None if stored by bits back


class Header(NamedTuple):
    nu: int
    steps: int
    model: bytes
    laws: int  # CRC-32
    shape: tuple[int, int, int]
    payload: int  # bytes
    environment: bytes  # b"" if it can be decoded on every machine
    entries: list[Entry]


class Sizes(NamedTuple):
    """The sizes that are known before the directory is read."""

    shape: tuple[int, int, int]
    images: int
    directory: int  # bytes
    payload: int  # bytes
    directory_start: int

    @property
    def dims(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def payload_start(self) -> int:
        return self.directory_start + self.directory + 4

    @property
    def total(self) -> int:
        return self.payload_start + self.payload


def pack(header: Header) -> bytes:
    directory = pack_directory(header.entries)
    flags = LOCAL * bool(header.environment)
    content = MAGIC + bytes([VERSION, flags, header.nu, header.steps]) + header.model
    sizes = (*header.shape, len(header.entries), len(directory), header.payload)
    content += b"".join(map(varint, sizes)) + header.laws.to_bytes(4, "little")
    content += header.environment + directory
    return content + zlib.crc32(content).to_bytes(4, "little")


def pack_directory(entries: Sequence[Entry]) -> bytes:
    content = b"".join(entry.pixels.to_bytes(4, "little") for entry in entries)
    content += np.packbits([entry.standalone is not None for entry in entries]).tobytes()
    for each in (entry.standalone for entry in entries if entry.standalone):
        content += bytes([each.nonce, each.scale]) + varint(each.size)
    names = [entry.name for entry in entries]
    check_names(names)
    return content + (zlib.compress("\0".join(names).encode(), 9) if any(names) else b"")


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError for names that are unsafe as file names, or that occur twice."""
    for name in names if any(names) else ():
        unsafe = not name or name.startswith(".") or not name.isprintable()
        if unsafe or set(name) & set("/\\:") or len(name.encode()) > MAX_NAME_SIZE:
            raise ValueError(
                f"an archive cannot hold the name {name[:MAX_NAME_SIZE]!r}: names have 1 to"
                f" {MAX_NAME_SIZE} bytes, no leading dot, slash, backslash, colon or unprintable"
                " character"
            )
    if any(names) and len(set(names)) < len(names):
        raise ValueError("two images have the same name; rename one of them")


def read_sizes(data: bytes) -> Sizes:
    """Reads the sizes from an archive's first MAX_HEADER_SIZE bytes.

    Raises NotADjxFile, UnsupportedVersion, HeaderCorrupt or TruncatedStream.
    """
    data = data[:MAX_HEADER_SIZE]
    if data[:4] != MAGIC[: len(data)] or not data:
        raise NotADjxFile(f"it is not an archive: it begins with {data[:4]!r}, not {MAGIC!r}")
    if len(data) > 4 and data[4] != VERSION:
        raise UnsupportedVersion(f"it has format version {data[4]}; this program reads {VERSION}")
    position, values = 16, []
    for _ in range(6):
        value, position = read_varint(data, position)
        values.append(value)
    position += 4 + (4 if data[5] & LOCAL else 0)
    sizes = Sizes(
        shape=tuple(values[:3]),
        images=values[3],
        directory=values[4],
        payload=values[5],
        directory_start=position,
    )
    if not (0 < sizes.dims <= file_header.MAX_DIMS and 0 < 4 * sizes.images <= sizes.directory):
        raise HeaderCorrupt("its header is damaged: no archive has such sizes")
    if sizes.payload > sizes.images * file_header.max_file_size(sizes.dims):
        raise HeaderCorrupt("its header is damaged: the payload is larger than its images can be")
    return sizes


def unpack(data: bytes) -> tuple[Header, int]:
    """Reads a header, and verifies its checksum before using the directory. Returns it and its length."""
    sizes = read_sizes(data)
    start = sizes.payload_start
    if len(data) < start:
        raise TruncatedStream(f"it holds only {len(data)} bytes, but its header alone has {start}")
    if zlib.crc32(data[: start - 4]) != int.from_bytes(data[start - 4 : start], "little"):
        raise HeaderCorrupt("its header is damaged: the checksum does not match")
    if data[5] > LOCAL or not (8 <= data[6] <= 16 and data[7]):
        raise HeaderCorrupt("its header is damaged: it holds numbers that no archive has")
    laws_start = sizes.directory_start - (8 if data[5] & LOCAL else 4)
    entries = unpack_directory(data[sizes.directory_start : start - 4], sizes.images)
    largest = max(entry.standalone.size for entry in entries if entry.standalone)
    if largest > file_header.max_file_size(sizes.dims):
        raise HeaderCorrupt("its directory is damaged: it holds numbers that no archive has")
    header = Header(
        nu=data[6],
        steps=data[7],
        model=data[8:16],
        laws=int.from_bytes(data[laws_start : laws_start + 4], "little"),
        shape=sizes.shape,
        payload=sizes.payload,
        environment=data[laws_start + 4 : sizes.directory_start],
        entries=entries,
    )
    return header, start


def names(header: Header) -> list[str]:
    """Returns every image's name, or its number if it has no name."""
    return [entry.name or str(number) for number, entry in enumerate(header.entries)]


def unpack_directory(content: bytes, images: int) -> list[Entry]:
    """Reads a directory. Raises HeaderCorrupt if no archive has such a one, even if its checksum is right."""
    position = 4 * images + -(-images // 8)
    pixels = np.frombuffer(content[: 4 * images], "<u4").tolist()
    flags = np.unpackbits(np.frombuffer(content[4 * images : position], np.uint8))[:images].tolist()
    if len(flags) < images or not flags[-1]:
        raise HeaderCorrupt(
            "its directory is damaged: it ends too early, or its last image is stored by bits back"
        )
    stored: list[Standalone | None] = []
    for flag in flags:
        if not flag:
            stored.append(None)
            continue
        if position + 2 > len(content):
            raise HeaderCorrupt("its directory is damaged: it ends too early")
        nonce, scale = content[position : position + 2]
        try:
            size, position = read_varint(content, position + 2)
        except TruncatedStream as error:
            raise HeaderCorrupt("its directory is damaged: it ends too early") from error
        if scale >= 32:
            raise HeaderCorrupt("its directory is damaged: it holds numbers that no archive has")
        stored.append(Standalone(nonce, scale, size))
    names = unpack_names(content[position:], images)
    return [Entry(*fields) for fields in zip(names, pixels, stored, strict=True)]


def unpack_names(content: bytes, images: int) -> list[str]:
    """Inflates the names, but no more bytes than they can have."""
    if not content:
        return [""] * images
    inflater = zlib.decompressobj()
    try:
        names = inflater.decompress(content, images * (MAX_NAME_SIZE + 1)).decode().split("\0")
        check_names(names)
    except (zlib.error, ValueError) as error:
        raise HeaderCorrupt(f"its names are damaged: {error}") from error
    if not inflater.eof or inflater.unused_data or len(names) != images or not any(names):
        raise HeaderCorrupt("its names are damaged: their number is not that of its images")
    return names
