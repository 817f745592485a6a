"""A range coder: integer arithmetic coding, byte by byte (Martin 1979, with Schindler's handling of carries).

Trailing zero bytes are not written; the decoder reads zeros after the last byte.
"""

from typing import NamedTuple

TOP = 1 << 24
WORD = 1 << 32


class Encoder(NamedTuple):
    """'state' holds low (33 bits), range, the byte a carry may still change, and the number of 0xFF after it."""

    state: list[int]
    out: bytearray


def encoder() -> Encoder:
    return Encoder([0, WORD - 1, 0, 0], bytearray())


def encode(coder: Encoder, start: int, size: int, total: int) -> None:
    """Encodes the interval [start, start + size) out of 'total' <= 2^16."""
    low, width, _, _ = coder.state
    unit = width // total
    # The last interval gets the remainder of the division.
    coder.state[0] = low + unit * start
    coder.state[1] = unit * size if start + size < total else width - unit * start
    while coder.state[1] < TOP:
        coder.state[1] <<= 8
        _shift(coder)


def _shift(coder: Encoder) -> None:
    low, _, byte, full = coder.state
    if low < WORD - TOP or low >= WORD:  # a carry is no longer possible, or has just occurred
        carry = low >> 32
        coder.out.append((byte + carry) & 0xFF)
        coder.out.extend(bytes([(0xFF + carry) & 0xFF]) * full)
        coder.state[2], coder.state[3] = (low >> 24) & 0xFF, 0
    else:
        coder.state[3] = full + 1
    coder.state[0] = (low & (TOP - 1)) << 8


def finish(coder: Encoder) -> bytes:
    """Returns the shortest stream that ends within the interval."""
    low, width = coder.state[:2]
    for bits in (32, 24, 16, 8, 0):
        value = -(-low >> bits) << bits
        if value < low + width:
            break
    coder.state[0] = value
    for _ in range(5):
        _shift(coder)
    return bytes(coder.out[1:]).rstrip(b"\0")  # the first byte, before the point, is zero


class Decoder(NamedTuple):
    """'state' holds code, range, and the number of bytes read."""

    state: list[int]
    stream: bytes


def decoder(stream: bytes) -> Decoder:
    return Decoder([int.from_bytes(stream[:4].ljust(4, b"\0"), "big"), WORD - 1, 4], stream)


def target(coder: Decoder, total: int) -> int:
    """Returns a number within the interval that was encoded."""
    code, width, _ = coder.state
    return min(code // (width // total), total - 1)


def decode(coder: Decoder, start: int, size: int, total: int) -> None:
    """Removes an interval, which the caller has found from the target."""
    code, width, position = coder.state
    unit = width // total
    code, width = code - unit * start, unit * size if start + size < total else width - unit * start
    while width < TOP:
        byte = coder.stream[position] if position < len(coder.stream) else 0
        code, width, position = ((code << 8) | byte) & (WORD - 1), width << 8, position + 1
    coder.state[:] = code, width, position


def is_past_end(coder: Decoder) -> bool:
    """Whether the decoder has read past the last byte."""
    return coder.state[2] > len(coder.stream)
