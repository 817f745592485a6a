"""archive and unarchive: many images to the bytes of one file, and back, by bits-back coding at the cost of the bound.

Bits-back coding needs bits on the stack to start from. They come from the first images, stored as in files of
their own: nothing is wasted, but an archive of few images consists of little else. An image that the chain
cannot code is stored that way too.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import UInt8

from ddpm_jax.codec import archive_header, bits_back, chain, file_header, image_file, normal_laws
from ddpm_jax.codec.archive_header import Entry, Header, Standalone
from ddpm_jax.codec.errors import (
    CorruptStream,
    EnvironmentMismatch,
    HeaderCorrupt,
    ModelMismatch,
    TruncatedStream,
)
from ddpm_jax.codec.model import Codec
from ddpm_jax.codec.primitives import ans

Levels = UInt8[np.ndarray, "h w c"]
LANES, DIMS = 64, 32  # at most LANES heads, and one for every DIMS dimensions of an image


class Member(NamedTuple):
    name: str
    image: Levels


def lane_count(codec: Codec) -> int:
    return min(max(int(np.prod(codec.shape)) // DIMS, 1), LANES)


def archive(
    images: Sequence[Levels] | UInt8[np.ndarray, "n h w c"],
    codec: Codec,
    names: Sequence[str] | None = None,
    nu: int = image_file.NU,
    tick: Callable[[], object] = lambda: None,
) -> bytes:
    """Compresses images to the bytes of one file; calls 'tick' after each.

    Images are decoded in order, so they are pushed in reverse. Raises ValueError for images that do not
    have the model's shape and grey levels, and for names that an archive may not hold.
    """
    if not len(images):
        raise ValueError("an archive needs at least one image")
    for image in images:
        image_file.check_image(image, codec)
    names = [""] * len(images) if names is None else list(names)
    archive_header.check_names(names)
    laws, margin = normal_laws.chain_laws(codec), image_file.required_margin(codec)
    stack: ans.Stack | None = None
    entries: list[Entry] = []
    for name, image in reversed(list(zip(names, images, strict=True))):
        stack, standalone = push_image(stack, image, codec, laws, nu, margin)
        entries.append(Entry(name, file_header.checksum(image), standalone))
        tick()
    payload = ans.pack(cast(ans.Stack, stack))  # there is at least one image
    header = Header(
        nu=nu,
        steps=len(codec.calibration.times) - 1,
        model=codec.model,
        laws=normal_laws.checksum(laws),
        shape=codec.shape,
        payload=len(payload),
        environment=codec.environment,
        entries=entries[::-1],
    )
    return archive_header.pack(header) + payload


def push_image(
    stack: ans.Stack | None,
    image: Levels,
    codec: Codec,
    laws: normal_laws.Laws,
    nu: int,
    margin: float,
) -> tuple[ans.Stack, Standalone | None]:
    """Pushes an image by bits back if possible, and as in a file of its own otherwise."""
    if stack is not None:
        try:
            return bits_back.push(stack, image, codec, laws, margin), None
        except (ans.Empty, normal_laws.Outside, chain.TooClose):
            pass
    file = image_file.compress(image, codec, nu)
    header, start = file_header.unpack(file)
    content = file[start:]
    if stack is None:
        stack = ans.from_bytes(content, lane_count(codec))
    else:
        stack = ans.push_bytes(stack, content)
    return stack, Standalone(header.nonce, header.scale, len(content))


def read_header(data: bytes, codec: Codec) -> tuple[Header, int]:
    """Reads the header of an archive of this codec. Returns it and its length.

    Raises CodecError if the archive is of another codec, or longer or shorter than its header says.
    """
    header, start = archive_header.unpack(data)
    if header.model != codec.model:
        raise ModelMismatch(image_file.model_mismatch(header.model, codec))
    if header.environment != codec.environment:
        raise EnvironmentMismatch(image_file.profile_mismatch(header.environment, codec))
    if header.shape != codec.shape or header.steps != len(codec.calibration.times) - 1:
        raise HeaderCorrupt("its header is damaged: shape or steps differ from the model's")
    if header.laws != normal_laws.checksum(normal_laws.chain_laws(codec)):
        raise EnvironmentMismatch(
            "this machine computes other coding tables than the one that wrote it"
        )
    declared = start + header.payload
    if len(data) > declared:
        raise CorruptStream(f"it holds {len(data)} bytes, but its header says {declared}")
    if len(data) < declared:
        raise TruncatedStream(
            f"it holds only {len(data)} of {declared} bytes; an incomplete archive cannot be decoded"
        )
    return header, start


def unarchive(data: bytes, codec: Codec) -> list[Member]:
    """Decompresses all images. Raises CodecError unless each is what was written."""
    return list(members(data, codec))


def members(data: bytes, codec: Codec) -> Iterator[Member]:
    """Decompresses image by image. Raises CorruptStream at the first that differs from what was written."""
    header, start = read_header(data, codec)
    laws, names = normal_laws.chain_laws(codec), archive_header.names(header)
    try:
        stack = ans.unpack(data[start:], lane_count(codec))
        for number, entry in enumerate(header.entries):
            last = number == len(names) - 1
            image, stack = pop_image(stack, entry, header, codec, laws, last)
            if file_header.checksum(image) != entry.pixels:
                raise CorruptStream(
                    f"the pixels of its image {number} differ from those written:"
                    " damage, or drift between machines"
                )
            yield Member(names[number], image)
    except (ans.Empty, normal_laws.Outside) as error:
        raise CorruptStream("its payload is damaged: no further image can be decoded") from error


def pop_image(
    stack: ans.Stack,
    entry: Entry,
    header: Header,
    codec: Codec,
    laws: normal_laws.Laws,
    last: bool,
) -> tuple[Levels, ans.Stack]:
    """Pops the topmost image; the last one takes all that is left of the stack."""
    if entry.standalone is None:
        return bits_back.pop(stack, codec, laws)
    nonce, scale, size = entry.standalone
    if last:
        content = ans.to_bytes(stack, size)
    else:
        content, stack = ans.pop_bytes(stack, size)
    file = file_header.Header(
        lossless=True,
        nu=header.nu,
        steps=header.steps,
        model=header.model,
        nonce=nonce,
        scale=scale,
        shape=header.shape,
        payload=size,
        pixels=entry.pixels,
        environment=header.environment,
    )
    return image_file.decode(file, content, 0, codec).image, stack
