"""What an archive begins with: the sizes of it all, and of every image its name, its checksum and how it is stored.

"DJXA"  version  flags  nu  steps  model (8 bytes)                        each a byte but the model
height  width  channels  images  directory's length  payload's length    varints
CRC-32 of the laws  [environment (4 bytes)]                               little-endian
directory: CRC-32 of the pixels of every image; a bit for each that is stored by itself, and of those
           nonce, scale, length; the names, deflated, or nothing
CRC-32 of all that
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
LONGEST = 64  # bytes before the directory, at most
NAME = 200  # bytes of a name


class Standalone(NamedTuple):
    """An image that is stored as in a file of its own, but for the header."""

    nonce: int
    scale: int
    size: int  # bytes


class Entry(NamedTuple):
    name: str  # "" of one without
    pixels: int  # CRC-32 of the grey levels
    alone: Standalone | None  # None with its bits back


class Header(NamedTuple):
    nu: int
    steps: int
    model: bytes
    laws: int  # CRC-32
    shape: tuple[int, int, int]
    payload: int  # bytes
    environment: bytes  # b"" of one that is for every machine
    entries: list[Entry]


class Sizes(NamedTuple):
    """What is known before the directory is read. 'place' is where it begins."""

    shape: tuple[int, int, int]
    images: int
    directory: int
    payload: int
    place: int

    @property
    def dims(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def start(self) -> int:
        """Of the payload."""
        return self.place + self.directory + 4

    @property
    def total(self) -> int:
        return self.start + self.payload


def pack(header: Header) -> bytes:
    listed = pack_directory(header.entries)
    flags = LOCAL * bool(header.environment)
    content = MAGIC + bytes([VERSION, flags, header.nu, header.steps]) + header.model
    sizes = (*header.shape, len(header.entries), len(listed), header.payload)
    content += b"".join(map(varint, sizes)) + header.laws.to_bytes(4, "little")
    content += header.environment + listed
    return content + zlib.crc32(content).to_bytes(4, "little")


def pack_directory(entries: Sequence[Entry]) -> bytes:
    content = b"".join(entry.pixels.to_bytes(4, "little") for entry in entries)
    content += np.packbits([entry.alone is not None for entry in entries]).tobytes()
    for each in (entry.alone for entry in entries if entry.alone):
        content += bytes([each.nonce, each.scale]) + varint(each.size)
    given = [entry.name for entry in entries]
    check_names(given)
    return content + (zlib.compress("\0".join(given).encode(), 9) if any(given) else b"")


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError for what is to be no file's name here: of a place elsewhere, or twice there."""
    for name in names if any(names) else ():
        odd = not name or name.startswith(".") or not name.isprintable() or set(name) & set("/\\:")
        if odd or len(name.encode()) > NAME:
            raise ValueError(f"{name[:NAME]!r} is no name that an archive can hold")
    if any(names) and len(set(names)) < len(names):
        raise ValueError("two images of one name")


def read_sizes(data: bytes) -> Sizes:
    """Of an archive's first LONGEST bytes. Raises NotADjxFile, UnsupportedVersion, HeaderCorrupt or TruncatedStream."""
    data = data[:LONGEST]
    if data[:4] != MAGIC[: len(data)] or not data:
        raise NotADjxFile(f"it begins {data[:4]!r}, not {MAGIC!r}: no archive")
    if len(data) > 4 and data[4] != VERSION:
        raise UnsupportedVersion(f"it is of version {data[4]}; this program knows {VERSION}")
    place, found = 16, []
    for _ in range(6):
        value, place = read_varint(data, place)
        found.append(value)
    place += 4 + (4 if data[5] & LOCAL else 0)
    known = Sizes(tuple(found[:3]), *found[3:], place)
    if not (0 < known.dims <= file_header.MAX_DIMS and 0 < 4 * known.images <= known.directory):
        raise HeaderCorrupt("its header is damaged: its sizes are none of an archive")
    if known.payload > known.images * file_header.max_file_size(known.dims):
        raise HeaderCorrupt("its header is damaged: it is longer than its images can be")
    return known


def unpack(data: bytes) -> tuple[Header, int]:
    """The header and its length. Nothing is made of the directory before the checksum has been seen."""
    known = read_sizes(data)
    end = known.start - 4
    if len(data) < known.start:
        raise TruncatedStream(f"it holds {len(data)} bytes and its header alone {known.start}")
    if zlib.crc32(data[:end]) != int.from_bytes(data[end : known.start], "little"):
        raise HeaderCorrupt("its header is damaged: the checksum is another")
    if data[5] > LOCAL or not (8 <= data[6] <= 16 and data[7]):
        raise HeaderCorrupt("its header holds numbers that no archive has")
    tail = known.place - (8 if data[5] & LOCAL else 4)
    laws, environment = (
        int.from_bytes(data[tail : tail + 4], "little"),
        data[tail + 4 : known.place],
    )
    entries = unpack_directory(data[known.place : end], known.images)
    if max(entry.alone.size for entry in entries if entry.alone) > file_header.max_file_size(
        known.dims
    ):
        raise HeaderCorrupt("its directory holds numbers that no archive has")
    return Header(
        data[6], data[7], data[8:16], laws, known.shape, known.payload, environment, entries
    ), known.start  # fmt: skip


def names(header: Header) -> list[str]:
    """Of every image; its number where it has none."""
    return [entry.name or str(number) for number, entry in enumerate(header.entries)]


def unpack_directory(content: bytes, images: int) -> list[Entry]:
    """Raises HeaderCorrupt for a directory that no archive has, though its checksum be right."""
    place = 4 * images + -(-images // 8)
    pixels = np.frombuffer(content[: 4 * images], "<u4").tolist()
    flags = np.unpackbits(np.frombuffer(content[4 * images : place], np.uint8))[:images].tolist()
    if len(flags) < images or not flags[-1]:
        raise HeaderCorrupt(
            "its directory ends too early, or says that nothing lies below all else"
        )
    alone = []
    for flag in flags:
        if not flag:
            alone.append(None)
            continue
        if place + 2 > len(content):
            raise HeaderCorrupt("its directory ends too early")
        nonce, scale = content[place : place + 2]
        try:
            size, place = read_varint(content, place + 2)
        except TruncatedStream as error:
            raise HeaderCorrupt("its directory ends too early") from error
        if scale >= 32:
            raise HeaderCorrupt("its directory holds numbers that no archive has")
        alone.append(Standalone(nonce, scale, size))
    return [
        Entry(*each)
        for each in zip(unpack_names(content[place:], images), pixels, alone, strict=True)
    ]


def unpack_names(content: bytes, images: int) -> list[str]:
    """The names, of which no more is inflated than there can be."""
    if not content:
        return [""] * images
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(content, images * (NAME + 1)).decode().split("\0")
        check_names(found)
    except (zlib.error, ValueError) as error:
        raise HeaderCorrupt(f"its names are damaged: {error}") from error
    if not inflater.eof or inflater.unused_data or len(found) != images or not any(found):
        raise HeaderCorrupt("its names are damaged: there are more or fewer than images")
    return found
