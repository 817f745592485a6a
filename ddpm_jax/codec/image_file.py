"""compress and decompress: an image to the bytes of a file, and any prefix of a file to an image.

A whole file is lossless. A prefix that holds the header decodes to x_0-hat of the last complete step.
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
    """'t' is the time reached by the last complete step, or 0 with the last layer.

    'damage' describes the damage to the file, if an image was recovered nevertheless.
    """

    image: Levels
    lossless: bool
    t: int
    bytes_used: int
    damage: str = ""


class BitCounts(NamedTuple):
    """How a file's bits are distributed over its parts."""

    header: int
    steps: list[int]
    last_layer: int


def compress(
    image: Levels, codec: Codec, nu: int = NU, lossless: bool = True, max_bytes: int | None = None
) -> bytes:
    """Compresses an image to the bytes of a file, or to its first 'max_bytes'.

    Raises ValueError if the image does not have the model's shape and grey levels.
    """
    data = compress_with_counts(image, codec, nu, lossless)[0]
    if max_bytes is None:
        return data
    file_header.unpack(data[:max_bytes])  # raises if the header is cut off
    return data[:max_bytes]


def compress_with_counts(
    image: Levels, codec: Codec, nu: int = NU, lossless: bool = True
) -> tuple[bytes, BitCounts]:
    """Compresses an image, and counts the bits of each part of the file."""
    check_image(image, codec)
    nonce, sent = find_nonce(image, codec, nu)
    scale, stream = 0, b""
    if lossless:
        scale, stream = last_layer.encode(sent.grids[-1], image, codec.levels)
    payload = np.packbits(sent.bits).tobytes() + stream
    header = file_header.pack(
        Header(
            lossless=lossless,
            nu=nu,
            steps=len(sent.ends),
            model=codec.model,
            nonce=nonce,
            scale=scale,
            shape=codec.shape,
            payload=len(payload),
            pixels=file_header.checksum(image),
            environment=codec.environment,
        )
    )
    steps = np.diff([0, *sent.ends]).tolist()
    counts = BitCounts(
        header=8 * len(header), steps=steps, last_layer=8 * len(payload) - sum(steps)
    )
    return header + payload, counts


def find_nonce(image: Levels, codec: Codec, nu: int) -> tuple[int, chain.Transmission]:
    """Sends the chain with the first nonce for which every output is far enough from a rounding boundary."""
    margin = required_margin(codec)
    for nonce in range(NONCES):
        try:
            return nonce, chain.send(codec, image, nu, nonce, margin)
        except chain.TooClose:
            pass
    raise RuntimeError(
        f"in each of {NONCES} trials, an output of the network lies within {margin} of a rounding"
        " boundary; --profile=local writes a file for this machine only"
    )


def required_margin(codec: Codec) -> float:
    """The least distance from outputs to rounding boundaries, 0 for files decoded on the same machine."""
    if codec.environment:
        return 0.0
    outputs = int(np.prod(codec.shape)) * len(codec.calibration.times)
    return chain.MARGIN if outputs < chain.LARGE else chain.LARGE_MARGIN


def check_image(image: Levels, codec: Codec) -> None:
    """Raises ValueError if the image does not have the model's shape and grey levels."""
    if image.shape != codec.shape:
        raise ValueError(
            f"the image is {shape_text(image.shape)}; this model's are {shape_text(codec.shape)}"
        )
    if image.max(initial=0) >= codec.levels:
        raise ValueError(
            f"the image has grey level {image.max()}; this model's images have {codec.levels}"
            f" levels, 0 to {codec.levels - 1}"
        )


def shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def read_header(data: bytes, codec: Codec, max_bytes: int | None = None) -> tuple[Header, int]:
    """Reads the header of a file of this codec. Returns it and its length.

    Raises CodecError if the file is of another codec, or longer or shorter than its header says; with
    'max_bytes' it may be shorter.
    """
    header, start = file_header.unpack(data)
    if header.model != codec.model:
        raise ModelMismatch(model_mismatch(header.model, codec))
    if header.environment != codec.environment:
        raise EnvironmentMismatch(profile_mismatch(header.environment, codec))
    if header.shape != codec.shape or header.steps != len(codec.calibration.times) - 1:
        raise HeaderCorrupt("its header is damaged: shape or steps differ from the model's")
    declared = start + header.payload
    if len(data) > declared:
        raise CorruptStream(f"it holds {len(data)} bytes, but its header says {declared}")
    if len(data) < declared and max_bytes is None:
        raise TruncatedStream(
            f"it holds only {len(data)} of {declared} bytes; --max_bytes={len(data)} decodes those"
        )
    if max_bytes is not None:
        file_header.unpack(data[:max_bytes])  # raises if the header is cut off
    return header, start


def model_mismatch(model: bytes, codec: Codec) -> str:
    return (
        f"it was written with the model {model.hex()}, but this run, at this step and with this"
        f" calibration, is {codec.model.hex()}"
    )


def profile_mismatch(environment: bytes, codec: Codec) -> str:
    if not environment:
        return "it has the portable profile, but this codec has the local one"
    if not codec.environment:
        return "it has the local profile, for the machine that wrote it, but this codec is portable"
    return "it has the local profile, and was written on another machine or with another jax"


def decompress(
    data: bytes, codec: Codec, max_bytes: int | None = None, best_effort: bool = False
) -> DecodedImage:
    """Decompresses a file, or its first 'max_bytes'.

    Raises CodecError: TruncatedStream if the file is shorter than its header says and 'max_bytes' is
    not given; CorruptStream if its pixels are not those written, unless 'best_effort' accepts what can
    be recovered.
    """
    header, start = read_header(data, codec, max_bytes)
    result = decode(header, data[:max_bytes], start, codec)
    if result.damage and not best_effort:
        raise CorruptStream(result.damage)
    return result


def decode(header: Header, data: bytes, start: int, codec: Codec) -> DecodedImage:
    """Decodes a payload, which begins at 'start' and may be cut short."""
    payload = data[start:]
    whole = len(payload) == header.payload
    reader = chain.Reader(np.unpackbits(np.frombuffer(payload, np.uint8)), [0])
    received = chain.receive(codec, reader, header.nu, header.nonce)
    grid, _ = chain.denoise(codec, received.x, received.t)
    used = -(-reader.position[0] // 8)
    chain_only = DecodedImage(
        image=last_layer.nearest_levels(grid, codec.levels),
        lossless=False,
        t=received.t,
        bytes_used=start + used,
        damage=received.damage,
    )
    if received.steps < header.steps:
        early = "its payload is damaged: it ends before the last step" if whole else ""
        return chain_only._replace(damage=received.damage or early)
    if not header.lossless:
        return chain_only
    stream = payload[used:]
    image, pixels = last_layer.decode(grid, header.scale, stream, codec.levels, whole)
    if not whole:
        used_bytes = len(data) if pixels else start + used
        return DecodedImage(image=image, lossless=False, t=1, bytes_used=used_bytes)
    if file_header.checksum(image) != header.pixels:
        # The last layer is noise after the first damaged byte; the end of the chain is still a picture.
        return chain_only._replace(
            damage="its pixels differ from those written: damage, or drift between machines"
        )
    return DecodedImage(image=image, lossless=True, t=0, bytes_used=len(data))
