"""compress and decompress: an image to the bytes of a file, and any prefix of a file to an image.

Lossless if the file is whole. Every prefix that holds the header decodes, to x_0-hat of the last step in it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from ddpm_jax.codec import chain, file_header, last_layer
from ddpm_jax.codec.errors import (
    CorruptStream,
    EnvironmentMismatch,
    HeaderCorrupt,
    ModelMismatch,
    TruncatedStream,
)
from ddpm_jax.codec.file_header import Header
from ddpm_jax.codec.model import Codec

Levels = UInt8[np.ndarray, "h w c"]  # grey levels 0..levels - 1
NU = 12  # 2^nu states of the trellis
NONCES = 256


class DecodedImage(NamedTuple):
    """'t' is the time of the last step that was there in full; 0 with the last layer.

    'damage' says what is wrong with the file, if its image was to be had in spite of it.
    """

    image: Levels
    lossless: bool
    t: int
    bytes_used: int
    damage: str = ""


class BitCounts(NamedTuple):
    """Of a file, in bits: what is spent on what."""

    header: int
    steps: list[int]
    last_layer: int


def compress(
    image: Levels, codec: Codec, nu: int = NU, lossless: bool = True, max_bytes: int | None = None
) -> bytes:
    """A file. With 'max_bytes' it is cut there: the same bytes, so far.

    Raises ValueError for an image that is none of the model's.
    """
    data = compress_with_counts(image, codec, nu, lossless)[0]
    if max_bytes is None:
        return data
    file_header.unpack(data[:max_bytes])  # the header must be in it
    return data[:max_bytes]


def compress_with_counts(
    image: Levels, codec: Codec, nu: int = NU, lossless: bool = True
) -> tuple[bytes, BitCounts]:
    """A file, and what is spent on what."""
    check_image(image, codec)
    nonce, sent = find_nonce(image, codec, nu)
    scale, stream = 0, b""
    if lossless:
        scale, stream = last_layer.encode(sent.grids[-1], image, codec.levels)
    payload = np.packbits(sent.bits).tobytes() + stream
    steps, checksum = len(sent.ends), file_header.checksum(image)
    header = file_header.pack(
        Header(
            lossless,
            nu,
            steps,
            codec.model,
            nonce,
            scale,
            codec.shape,
            len(payload),
            checksum,
            codec.environment,
        )  # fmt: skip
    )
    spent = np.diff([0, *sent.ends]).tolist()
    return header + payload, BitCounts(8 * len(header), spent, 8 * len(payload) - sum(spent))


def find_nonce(image: Levels, codec: Codec, nu: int) -> tuple[int, chain.Transmission]:
    """The chain with the first nonce on which every output is far enough from where rounding turns."""
    kept = required_margin(codec)
    for nonce in range(NONCES):
        try:
            return nonce, chain.send(codec, image, nu, nonce, kept)
        except chain.TooClose:
            pass
    raise RuntimeError(
        f"of {NONCES} trials none kept the network's outputs {kept} from where rounding turns;"
        " --profile=local writes a file for this machine"
    )


def required_margin(codec: Codec) -> float:
    """How far outputs are to be from where rounding turns; none is asked of the machine that decodes."""
    if codec.environment:
        return 0.0
    outputs = int(np.prod(codec.shape)) * len(codec.calibration.times)
    return chain.MARGIN if outputs < chain.LARGE else chain.LARGE_MARGIN


def check_image(image: Levels, codec: Codec) -> None:
    if image.shape != codec.shape:
        raise ValueError(
            f"the image is {shape_text(image.shape)}; this model's are {shape_text(codec.shape)}"
        )
    if image.max(initial=0) >= codec.levels:
        raise ValueError(f"the image has a grey level {image.max()}; there are {codec.levels}")


def shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def read_header(data: bytes, codec: Codec, max_bytes: int | None = None) -> tuple[Header, int]:
    """The header and its length, if the file is one of this codec's, and as long as it says.

    Raises CodecError if not; a shorter one is accepted with 'max_bytes'.
    """
    header, start = file_header.unpack(data)
    if header.model != codec.model:
        raise ModelMismatch(model_mismatch(header.model, codec))
    if header.environment != codec.environment:
        raise EnvironmentMismatch(profile_mismatch(header.environment, codec))
    if header.shape != codec.shape or header.steps != len(codec.calibration.times) - 1:
        raise HeaderCorrupt("its header and its model speak of different images")
    declared = start + header.payload
    if len(data) > declared:
        raise CorruptStream(f"it holds {len(data)} bytes and says {declared}")
    if len(data) < declared and max_bytes is None:
        raise TruncatedStream(
            f"it holds {len(data)} bytes of {declared}; --max_bytes={len(data)} decodes what is there"
        )
    if max_bytes is not None:
        file_header.unpack(data[:max_bytes])  # the header must be in it
    return header, start


def model_mismatch(model: bytes, codec: Codec) -> str:
    return (
        f"it was written with the model {model.hex()}, and this run, at this step and with this"
        f" calibration, is {codec.model.hex()}"
    )


def profile_mismatch(environment: bytes, codec: Codec) -> str:
    if not environment:
        return "it is of the portable profile; this codec is of the local one"
    if not codec.environment:
        return "it is of the local profile, for the machine that wrote it; this codec is portable"
    return "it is of the local profile and was written on another machine, or with another jax"


def decompress(
    data: bytes, codec: Codec, max_bytes: int | None = None, best_effort: bool = False
) -> DecodedImage:
    """The image of a file, or of its first 'max_bytes'.

    Raises CodecError: TruncatedStream if it is shorter than it says and 'max_bytes' is not given;
    CorruptStream if it is whole and not what was written, unless 'best_effort' asks for what is left.
    """
    header, start = read_header(data, codec, max_bytes)
    found = decode(header, data[:max_bytes], start, codec)
    if found.damage and not best_effort:
        raise CorruptStream(found.damage)
    return found


def decode(header: Header, data: bytes, start: int, codec: Codec) -> DecodedImage:
    payload = data[start:]
    whole = len(payload) == header.payload
    reader = chain.Reader(np.unpackbits(np.frombuffer(payload, np.uint8)), [0])
    received = chain.receive(codec, reader, header.nu, header.nonce)
    grid, _ = chain.denoise(codec, received.x, received.t)
    used = -(-reader.place[0] // 8)
    chain_only = DecodedImage(
        last_layer.nearest_levels(grid, codec.levels),
        False,
        received.t,
        start + used,
        received.damage,
    )
    if received.steps < header.steps:
        early = "its payload is damaged: it ends before its last step"
        return chain_only._replace(damage=received.damage or (early if whole else ""))
    if not header.lossless:
        return chain_only
    stream = payload[used:]
    image, told = last_layer.decode(grid, header.scale, stream, codec.levels, whole)
    if not whole:
        return DecodedImage(image, False, 1, len(data) if told else start + used)
    if file_header.checksum(image) != header.pixels:
        # From a damaged byte on the last layer is noise; what the chain ends at is a picture still.
        return chain_only._replace(
            damage="its pixels are not those that were written: damaged, or drift"
        )
    return DecodedImage(image, True, 0, len(data))
