"""Asymmetric numeral systems: a stack of bits onto which symbols are pushed, and from which they are popped. Bits-back.

rANS (Duda 2013, arXiv:1311.2540) in lanes: 64-bit heads that numpy moves together, and one tail of 32-bit words
below them. A pop is the exact inverse of a push and a push of a pop, whatever the bits are. A stack is
never changed, so that what was tried can be given up.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt64

LEAST_BITS, WORD_BITS = 31, 32  # heads lie from 2^31 to 2^63
LENGTH_BITS = 5  # of a head's own length in a file
RAW_BITS = 16  # of what is pushed as it is, at a time
Counts = Int64[np.ndarray, " n"]
Pad = UInt64[np.ndarray, " n"]  # below 2^31
# Of counts that were popped, and the place that they are for: the symbol, where its interval begins, and its size.
Find = Callable[[Counts, slice], tuple[Counts, Counts, Counts]]


class Empty(Exception):
    """The stack has fewer bits than are asked for."""


class Stack(NamedTuple):
    """'tail' is a pair of the topmost words and of the tail below them, None at the bottom."""

    heads: UInt64[np.ndarray, " lanes"]
    tail: tuple | None


def push(
    stack: Stack, start: Counts, size: Counts, precision: int, pad: Pad | None = None
) -> Stack:
    """The intervals [start, start + size) of 2^precision, none of them empty; what 'pop' takes with the same pad."""
    heads, tail, lanes = stack.heads.copy(), stack.tail, len(stack.heads)
    starts, sizes = start.astype(np.uint64), size.astype(np.uint64)
    limits = sizes << np.uint64(LEAST_BITS + WORD_BITS - precision)
    for first in range(0, len(sizes), lanes):
        here = slice(first, first + lanes)
        wide, head = sizes[here], heads[: len(sizes[here])]
        full = head >= limits[here]
        if full.any():
            tail = head[full].astype(np.uint32), tail
            head = np.where(full, head >> np.uint64(WORD_BITS), head)
        whole, rest = np.divmod(head, wide)
        head = (whole << np.uint64(precision)) + rest + starts[here]
        heads[: len(wide)] = head if pad is None else head ^ pad[here]
    return Stack(heads, tail)


def pop(
    stack: Stack, count: int, precision: int, find: Find, pad: Pad | None = None
) -> tuple[Counts, Stack]:
    """So many symbols, the last that were pushed. Raises Empty.

    A pad of random words makes draws of bits that are not random, as those of other symbols are not.
    """
    heads, tail, lanes = stack.heads.copy(), stack.tail, len(stack.heads)
    found = np.empty(count, np.int64)
    mask = np.uint64((1 << precision) - 1)
    for first in reversed(range(0, count, lanes)):
        here = slice(first, min(first + lanes, count))
        head = heads[: here.stop - first]
        head = head if pad is None else head ^ pad[here]
        low = head & mask
        found[here], start, size = find(low.astype(np.int64), here)
        head = size.astype(np.uint64) * (head >> np.uint64(precision)) + low
        head -= start.astype(np.uint64)
        short = head < (1 << LEAST_BITS)
        if short.any():
            words, tail = take_words(tail, int(short.sum()))
            head[short] = (head[short] << np.uint64(WORD_BITS)) | words
        heads[: len(head)] = head
    return found, Stack(heads, tail)


def take_words(tail: tuple | None, count: int) -> tuple[np.ndarray, tuple | None]:
    """The topmost words in the order in which they were laid down, and the tail below."""
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
    """As they are; their number is for others to remember."""
    symbols = np.frombuffer(content + bytes(len(content) % 2), "<u2").astype(np.int64)
    return push(stack, symbols, np.ones_like(symbols), RAW_BITS)


def pop_bytes(stack: Stack, count: int) -> tuple[bytes, Stack]:
    symbols, stack = pop(stack, (count + 1) // 2, RAW_BITS, find_uniform)
    return symbols.astype("<u2").tobytes()[:count], stack


def find_uniform(low: Counts, here: slice) -> tuple[Counts, Counts, Counts]:
    """Of symbols that are all equally likely."""
    return low, low, np.ones_like(low)


def from_bytes(content: bytes, lanes: int) -> Stack:
    """A new stack of these bytes, heads and all."""
    padded = content.ljust(4 * lanes, b"\0") + bytes(-max(len(content), 4 * lanes) % 4)
    words = np.frombuffer(padded, "<u4")
    heads = words[:lanes].astype(np.uint64) + np.uint64(1 << WORD_BITS)
    return Stack(heads, (words[lanes:], None) if len(words) > lanes else None)


def to_bytes(stack: Stack, count: int) -> bytes:
    """The inverse. Raises Empty if the stack is none of so many bytes."""
    lanes = len(stack.heads)
    left = max(-(-count // 4) - lanes, 0)
    words, below = take_words(stack.tail, left) if left else (np.zeros(0, np.uint32), stack.tail)
    if below is not None or (stack.heads >> np.uint64(WORD_BITS) != 1).any():
        raise Empty
    return np.concatenate([stack.heads.astype("<u4"), words.astype("<u4")]).tobytes()[:count]


def pack(stack: Stack) -> bytes:
    """The stack as a file has it: every head's length and its bits below the first, then the words from the bottom."""
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
    """Raises Empty if it is none of a stack."""
    bits = "".join(f"{byte:08b}" for byte in content[: 9 * lanes])
    heads, place = [], 0
    for _ in range(lanes):
        length = int(bits[place : place + LENGTH_BITS].ljust(1, "0"), 2) + LEAST_BITS
        place += LENGTH_BITS + length
        if place > len(bits):
            raise Empty
        heads.append(int("1" + bits[place - length : place], 2))
    words = content[-(-place // 8) :]
    if len(words) % 4:
        raise Empty
    tail = (np.frombuffer(words, "<u4").astype(np.uint32), None) if words else None
    return Stack(np.array(heads, np.uint64), tail)
