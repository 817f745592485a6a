"""archive and unarchive: many images to the bytes of one file, and back; by bits back, at the cost of the bound.

The stack must first hold bits that can be lent. They are the first images themselves, as files of their own
hold them: nothing is wasted, and of few images it is all there is. Whatever the chain fails goes in likewise.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

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
LANES, DIMS = 64, 32  # at most so many heads, and one for so many numbers of an image


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
    """A file. It is decoded in the images' order, so the last of them are the first that are pushed.

    Raises ValueError for images that are none of the model's, and for names that no archive can hold.
    """
    if not len(images):
        raise ValueError("an archive is of one image at least")
    for image in images:
        image_file.check_image(image, codec)
    names = [""] * len(images) if names is None else list(names)
    archive_header.check_names(names)
    of, margin = normal_laws.chain_laws(codec), image_file.required_margin(codec)
    stack, entries = None, []
    for name, image in reversed(list(zip(names, images, strict=True))):
        stack, alone = push_image(stack, image, codec, of, nu, margin)
        entries.append(Entry(name, file_header.checksum(image), alone))
        tick()
    payload, steps = ans.pack(stack), len(codec.calibration.times) - 1
    known = (nu, steps, codec.model, normal_laws.checksum(of), codec.shape, len(payload))
    return archive_header.pack(Header(*known, codec.environment, entries[::-1])) + payload


def push_image(
    stack: ans.Stack | None,
    image: Levels,
    codec: Codec,
    of: normal_laws.Laws,
    nu: int,
    margin: float,
) -> tuple[ans.Stack, Standalone | None]:
    """The stack with the image on it: with its bits back if that can be, else as in a file of its own."""
    if stack is not None:
        try:
            return bits_back.push(stack, image, codec, of, margin), None
        except (ans.Empty, normal_laws.Outside, chain.TooClose):
            pass
    file = image_file.compress(image, codec, nu)
    header, start = file_header.unpack(file)
    content = file[start:]
    onto = (
        ans.from_bytes(content, lane_count(codec))
        if stack is None
        else ans.push_bytes(stack, content)
    )
    return onto, Standalone(header.nonce, header.scale, len(content))


def read_header(data: bytes, codec: Codec) -> tuple[Header, int]:
    """The header and its length, if the archive is one of this codec's, and as long as it says.

    Raises CodecError if not.
    """
    header, start = archive_header.unpack(data)
    if header.model != codec.model:
        raise ModelMismatch(image_file.model_mismatch(header.model, codec))
    if header.environment != codec.environment:
        raise EnvironmentMismatch(image_file.profile_mismatch(header.environment, codec))
    if header.shape != codec.shape or header.steps != len(codec.calibration.times) - 1:
        raise HeaderCorrupt("its header and its model speak of different images")
    if header.laws != normal_laws.checksum(normal_laws.chain_laws(codec)):
        raise EnvironmentMismatch(
            "its laws come out different on this machine than where it was made"
        )
    declared = start + header.payload
    if len(data) > declared:
        raise CorruptStream(f"it holds {len(data)} bytes and says {declared}")
    if len(data) < declared:
        raise TruncatedStream(
            f"it holds {len(data)} bytes of {declared}; no part of it can be decoded"
        )
    return header, start


def unarchive(data: bytes, codec: Codec) -> list[Member]:
    """All images, each of which is what was written, or CodecError."""
    return list(members(data, codec))


def members(data: bytes, codec: Codec) -> Iterator[Member]:
    """One after the other, each checked. Raises CorruptStream at the first that is not what was written."""
    header, start = read_header(data, codec)
    of, names = normal_laws.chain_laws(codec), archive_header.names(header)
    try:
        stack = ans.unpack(data[start:], lane_count(codec))
        for number, entry in enumerate(header.entries):
            image, stack = pop_image(stack, entry, header, codec, of, number == len(names) - 1)
            if file_header.checksum(image) != entry.pixels:
                raise CorruptStream(
                    f"the pixels of its image {number} are not those that were written:"
                    " damaged, or drift"
                )
            yield Member(names[number], image)
    except (ans.Empty, normal_laws.Outside) as error:
        raise CorruptStream("its payload is damaged: it holds no more images") from error


def pop_image(
    stack: ans.Stack,
    entry: Entry,
    header: Header,
    codec: Codec,
    of: normal_laws.Laws,
    last: bool,
) -> tuple[Levels, ans.Stack]:
    """The topmost image, and the stack below it; the last is all that is left."""
    if entry.alone is None:
        return bits_back.pop(stack, codec, of)
    nonce, scale, size = entry.alone
    if last:
        content = ans.to_bytes(stack, size)
    else:
        content, stack = ans.pop_bytes(stack, size)
    whole = file_header.Header(
        True, header.nu, header.steps, header.model, nonce, scale,
        header.shape, size, entry.pixels, header.environment,
    )  # fmt: skip
    return image_file.decode(whole, content, 0, codec).image, stack
