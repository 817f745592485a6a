"""A range coder: integer arithmetic coding, byte by byte (Martin 1979; the carry as Schindler's has it).

A stream's trailing zero bytes are not written, and the reader reads zeros after the last byte.
"""

from typing import NamedTuple

TOP = 1 << 24
WORD = 1 << 32


class Encoder(NamedTuple):
    """'state' is low (33 bits), range, the byte that a carry may still change, and the 0xFF after it."""

    state: list[int]
    out: bytearray


def encoder() -> Encoder:
    return Encoder([0, WORD - 1, 0, 0], bytearray())


def encode(coder: Encoder, start: int, size: int, total: int) -> None:
    """The interval [start, start + size) of 'total' <= 2^16."""
    low, width, _, _ = coder.state
    unit = width // total
    # The last interval takes what the division left over.
    coder.state[0] = low + unit * start
    coder.state[1] = unit * size if start + size < total else width - unit * start
    while coder.state[1] < TOP:
        coder.state[1] <<= 8
        _shift(coder)


def _shift(coder: Encoder) -> None:
    low, _, byte, full = coder.state
    if low < WORD - TOP or low >= WORD:  # no carry can come any more, or it has come
        carry = low >> 32
        coder.out.append((byte + carry) & 0xFF)
        coder.out.extend(bytes([(0xFF + carry) & 0xFF]) * full)
        coder.state[2], coder.state[3] = (low >> 24) & 0xFF, 0
    else:
        coder.state[3] = full + 1
    coder.state[0] = (low & (TOP - 1)) << 8


def finish(coder: Encoder) -> bytes:
    """The shortest stream that ends within the interval."""
    low, width = coder.state[:2]
    for bits in (32, 24, 16, 8, 0):
        value = -(-low >> bits) << bits
        if value < low + width:
            break
    coder.state[0] = value
    for _ in range(5):
        _shift(coder)
    return bytes(coder.out[1:]).rstrip(b"\0")  # the first byte is one before the point: zero


class Decoder(NamedTuple):
    """'state' is code, range, and the number of bytes taken in."""

    state: list[int]
    stream: bytes


def decoder(stream: bytes) -> Decoder:
    return Decoder([int.from_bytes(stream[:4].ljust(4, b"\0"), "big"), WORD - 1, 4], stream)


def target(coder: Decoder, total: int) -> int:
    """A number within the interval that was encoded."""
    code, width, _ = coder.state
    return min(code // (width // total), total - 1)


def decode(coder: Decoder, start: int, size: int, total: int) -> None:
    """Takes the interval out, which the target has told."""
    code, width, taken = coder.state
    unit = width // total
    code, width = code - unit * start, unit * size if start + size < total else width - unit * start
    while width < TOP:
        byte = coder.stream[taken] if taken < len(coder.stream) else 0
        code, width, taken = ((code << 8) | byte) & (WORD - 1), width << 8, taken + 1
    coder.state[:] = code, width, taken


def is_past_end(coder: Decoder) -> bool:
    """Whether it has looked past the last byte there is."""
    return coder.state[2] > len(coder.stream)
