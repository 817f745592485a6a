"""Asymmetric numeral systems: a stack of bits onto which symbols are pushed, and from which they are popped.

rANS (Duda 2013, arXiv:1311.2540) in lanes: numpy updates many 64-bit heads at once, and they share one
tail of 32-bit words. A pop inverts a push exactly, and a push inverts a pop, whatever the bits are, which is
what bits-back coding needs. A stack is never modified in place, so a failed attempt can be discarded.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt64

LEAST_BITS, WORD_BITS = 31, 32  # heads lie between 2^31 and 2^63
LENGTH_BITS = 5  # store a head's bit length in a file
RAW_BITS = 16  # pushed at a time when bytes are stored as they are
Counts = Int64[np.ndarray, " n"]
Pad = UInt64[np.ndarray, " n"]  # below 2^31
# Maps popped counts, and the slice of symbols that they belong to, to the symbols, and the start and size of
# their intervals.
Find = Callable[[Counts, slice], tuple[Counts, Counts, Counts]]


class Empty(Exception):
    """The stack holds fewer bits than requested."""


class Stack(NamedTuple):
    """The heads of all lanes, and the tail they share.

    'tail' is a pair: the topmost words, and the tail below them (None at the bottom).
    """

    heads: UInt64[np.ndarray, " lanes"]
    tail: tuple | None


def push(
    stack: Stack, start: Counts, size: Counts, precision: int, pad: Pad | None = None
) -> Stack:
    """Pushes the intervals [start, start + size) of 2^precision; none may be empty.

    'pop' with the same pad inverts it.
    """
    heads, tail, lanes = stack.heads.copy(), stack.tail, len(stack.heads)
    starts, sizes = start.astype(np.uint64), size.astype(np.uint64)
    limits = sizes << np.uint64(LEAST_BITS + WORD_BITS - precision)
    for first in range(0, len(sizes), lanes):
        chunk = slice(first, first + lanes)
        width, head = sizes[chunk], heads[: len(sizes[chunk])]
        full = head >= limits[chunk]
        if full.any():
            tail = head[full].astype(np.uint32), tail
            head = np.where(full, head >> np.uint64(WORD_BITS), head)
        quotient, remainder = np.divmod(head, width)
        head = (quotient << np.uint64(precision)) + remainder + starts[chunk]
        heads[: len(width)] = head if pad is None else head ^ pad[chunk]
    return Stack(heads, tail)


def pop(
    stack: Stack, count: int, precision: int, find: Find, pad: Pad | None = None
) -> tuple[Counts, Stack]:
    """Pops 'count' symbols, the most recently pushed ones. Raises Empty.

    The bits on a stack are those of other symbols, hence not random; a pad of random words makes them so.
    """
    heads, tail, lanes = stack.heads.copy(), stack.tail, len(stack.heads)
    symbols = np.empty(count, np.int64)
    mask = np.uint64((1 << precision) - 1)
    for first in reversed(range(0, count, lanes)):
        chunk = slice(first, min(first + lanes, count))
        head = heads[: chunk.stop - first]
        head = head if pad is None else head ^ pad[chunk]
        low = head & mask
        symbols[chunk], start, size = find(low.astype(np.int64), chunk)
        head = size.astype(np.uint64) * (head >> np.uint64(precision)) + low
        head -= start.astype(np.uint64)
        short = head < (1 << LEAST_BITS)
        if short.any():
            words, tail = take_words(tail, int(short.sum()))
            head[short] = (head[short] << np.uint64(WORD_BITS)) | words
        heads[: len(head)] = head
    return symbols, Stack(heads, tail)


def take_words(tail: tuple | None, count: int) -> tuple[np.ndarray, tuple | None]:
    """Returns the topmost words, in the order in which they were pushed, and the tail below them."""
    parts = []
    while count:
        if tail is None:
            raise Empty
        words, below = tail
        parts.append(words[-count:])
        tail = (words[:-count], below) if len(words) > count else below
        count -= len(parts[-1])
    return np.concatenate(parts[::-1]), tail


def push_bytes(stack: Stack, content: bytes) -> Stack:
    """Pushes bytes unchanged. The caller has to store their number."""
    symbols = np.frombuffer(content + bytes(len(content) % 2), "<u2").astype(np.int64)
    return push(stack, symbols, np.ones_like(symbols), RAW_BITS)


def pop_bytes(stack: Stack, count: int) -> tuple[bytes, Stack]:
    symbols, stack = pop(stack, (count + 1) // 2, RAW_BITS, find_uniform)
    return symbols.astype("<u2").tobytes()[:count], stack


def find_uniform(low: Counts, chunk: slice) -> tuple[Counts, Counts, Counts]:
    """The Find of equally likely symbols."""
    return low, low, np.ones_like(low)


def from_bytes(content: bytes, lanes: int) -> Stack:
    """Builds a stack whose heads and tail consist of these bytes."""
    padded = content.ljust(4 * lanes, b"\0") + bytes(-max(len(content), 4 * lanes) % 4)
    words = np.frombuffer(padded, "<u4")
    heads = words[:lanes].astype(np.uint64) + np.uint64(1 << WORD_BITS)
    return Stack(heads, (words[lanes:], None) if len(words) > lanes else None)


def to_bytes(stack: Stack, count: int) -> bytes:
    """Inverts from_bytes. Raises Empty unless the stack holds exactly that many bytes."""
    lanes = len(stack.heads)
    remaining = max(-(-count // 4) - lanes, 0)
    words, below = np.zeros(0, np.uint32), stack.tail
    if remaining:
        words, below = take_words(stack.tail, remaining)
    if below is not None or (stack.heads >> np.uint64(WORD_BITS) != 1).any():
        raise Empty
    return np.concatenate([stack.heads.astype("<u4"), words.astype("<u4")]).tobytes()[:count]


def pack(stack: Stack) -> bytes:
    """Serializes a stack: each head's length and its bits after the leading one, then the words, bottom first."""
    numbers = [f"{head:b}" for head in stack.heads.tolist()]
    bits = "".join(
        f"{len(number) - LEAST_BITS - 1:0{LENGTH_BITS}b}{number[1:]}" for number in numbers
    )
    parts, tail = [], stack.tail
    while tail is not None:
        words, tail = tail
        parts.append(words.astype("<u4").tobytes())
    packed = np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord("0")).tobytes()
    return packed + b"".join(reversed(parts))


def unpack(content: bytes, lanes: int) -> Stack:
    """Inverts pack. Raises Empty if the content is too short, or has a length that no stack has."""
    bits = "".join(f"{byte:08b}" for byte in content[: 9 * lanes])
    heads, position = [], 0
    for _ in range(lanes):
        length = int(bits[position : position + LENGTH_BITS].ljust(1, "0"), 2) + LEAST_BITS
        position += LENGTH_BITS + length
        if position > len(bits):
            raise Empty
        heads.append(int("1" + bits[position - length : position], 2))
    words = content[-(-position // 8) :]
    if len(words) % 4:
        raise Empty
    tail = (np.frombuffer(words, "<u4").astype(np.uint32), None) if words else None
    return Stack(np.array(heads, np.uint64), tail)
