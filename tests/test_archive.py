"""Archives: a stack of bits, bits back from it, and many images in one file, of which the size on disk is told."""

import numpy as np
import pytest

from ddpm_jax.codec import ans


def intervals(random, count, precision):
    """Of symbols, some of them nearly certain and some of one count."""
    size = np.maximum(((1 << precision) * random.random(count) ** 9).astype(np.int64), 1)
    start = (((1 << precision) - size) * random.random(count)).astype(np.int64)
    return start, size


def same(stack, other):
    return (stack.heads == other.heads).all() and ans.pack(stack) == ans.pack(other)


@pytest.mark.parametrize("lanes, precision", [(1, 16), (7, 24), (48, 24), (3, 28)])
def test_a_stack_returns_what_was_pushed_at_the_entropy_of_it(lanes, precision):
    random = np.random.default_rng(lanes)
    before = ans.filled(random.bytes(16 * lanes), lanes)
    given = [intervals(random, count, precision) for count in (5 * lanes + 2, 1, 3000, lanes)]
    stack = before
    for start, size in given:
        stack = ans.push(stack, start, size, precision)
    taken = 8 * (len(ans.pack(stack)) - len(ans.pack(before)))
    ideal = sum(float((precision - np.log2(size)).sum()) for _, size in given)
    assert abs(taken - ideal) < 1e-3 * ideal + 8
    stack = ans.unpack(ans.pack(stack), lanes)
    for start, size in reversed(given):

        def find(low, here, start=start, size=size):
            assert ((start[here] <= low) & (low < start[here] + size[here])).all()
            return start[here], start[here], size[here]

        found, stack = ans.pop(stack, len(start), precision, find)
        assert (found == start).all()
    assert same(stack, before)


def test_what_is_popped_first_and_pushed_back_leaves_the_stack_as_it_was():
    """Bits back: any bits are symbols of any law, here of one with unequal intervals."""
    edges = np.array([0, 1, 5, 300, 9000, 60000, 65536])

    def find(low, here):
        symbol = edges.searchsorted(low, "right") - 1
        return symbol, edges[symbol], np.diff(edges)[symbol]

    before = ans.filled(np.random.default_rng(0).bytes(4000), 5)
    symbols, stack = ans.pop(before, 9000, 16, find)
    left = len(ans.pack(before)) - len(ans.pack(stack))
    chance = np.diff(edges) / 65536
    assert np.abs(np.bincount(symbols, minlength=6) / 9000 - chance).max() < 0.02
    assert 8 * left / 9000 == pytest.approx(-(chance * np.log2(chance)).sum(), rel=0.02)
    assert same(ans.push(stack, edges[symbols], np.diff(edges)[symbols], 16), before)


def test_bytes_go_onto_a_stack_and_come_off_it_at_their_own_size():
    random = np.random.default_rng(0)
    for lanes in (1, 4):
        for first, second in ((0, 3), (17, 16), (64, 999)):
            contents = random.bytes(first), random.bytes(second)
            stack = ans.push_bytes(ans.filled(contents[0], lanes), contents[1])
            size = max(first, 4 * lanes) + second
            assert len(ans.pack(stack)) <= size + 4 + 2 + -(-5 * lanes // 8)
            found, rest = ans.pop_bytes(ans.unpack(ans.pack(stack), lanes), second)
            assert found == contents[1] and ans.emptied(rest, first) == contents[0]
            with pytest.raises(ans.Empty):
                ans.emptied(rest, 4 * lanes + first + 4)
            with pytest.raises(ans.Empty):
                ans.pop_bytes(rest, 4000)


@pytest.mark.parametrize("content", [b"", b"\xff" * 9, bytes(10)])
def test_bytes_that_are_no_stack_are_refused(content):
    with pytest.raises(ans.Empty):
        ans.unpack(content, 2)
