"""Archives in memory: the stack of bits, integer laws, and bits-back coding of an image."""

import numpy as np
import pytest
from scipy import stats
from support.gaussian_source import LEVELS, SCHED, codec, images, predict

from ddpm_jax.codec import bits_back, measure, normal_laws
from ddpm_jax.codec.primitives import ans

SMALL, MIDDLE = (8, 8, 3), (16, 16, 3)


def intervals(random, count, precision):
    """Intervals of random symbols, some of them nearly certain and some of one count."""
    size = np.maximum(((1 << precision) * random.random(count) ** 9).astype(np.int64), 1)
    start = (((1 << precision) - size) * random.random(count)).astype(np.int64)
    return start, size


def same(stack, other):
    return (stack.heads == other.heads).all() and ans.pack(stack) == ans.pack(other)


@pytest.mark.parametrize("lanes, precision", [(1, 16), (7, 24), (48, 24), (3, 28)])
def test_a_stack_returns_what_was_pushed_and_grows_by_its_entropy(lanes, precision):
    random = np.random.default_rng(lanes)
    before = ans.from_bytes(random.bytes(16 * lanes), lanes)
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


def test_popping_and_pushing_back_leaves_the_stack_unchanged():
    """Any bits are symbols of any law, here of one with unequal intervals."""
    edges = np.array([0, 1, 5, 300, 9000, 60000, 65536])

    def find(low, here):
        symbol = edges.searchsorted(low, "right") - 1
        return symbol, edges[symbol], np.diff(edges)[symbol]

    before = ans.from_bytes(np.random.default_rng(0).bytes(4000), 5)
    symbols, stack = ans.pop(before, 9000, 16, find)
    left = len(ans.pack(before)) - len(ans.pack(stack))
    chance = np.diff(edges) / 65536
    assert np.abs(np.bincount(symbols, minlength=6) / 9000 - chance).max() < 0.02
    assert 8 * left / 9000 == pytest.approx(-(chance * np.log2(chance)).sum(), rel=0.02)
    assert same(ans.push(stack, edges[symbols], np.diff(edges)[symbols], 16), before)


def test_bytes_on_a_stack_take_their_own_size_and_come_back():
    random = np.random.default_rng(0)
    for lanes in (1, 4):
        for first, second in ((0, 3), (17, 16), (64, 999)):
            contents = random.bytes(first), random.bytes(second)
            stack = ans.push_bytes(ans.from_bytes(contents[0], lanes), contents[1])
            size = max(first, 4 * lanes) + second
            assert len(ans.pack(stack)) <= size + 4 + 2 + -(-5 * lanes // 8)
            found, rest = ans.pop_bytes(ans.unpack(ans.pack(stack), lanes), second)
            assert found == contents[1] and ans.to_bytes(rest, first) == contents[0]
            with pytest.raises(ans.Empty):
                ans.to_bytes(rest, 4 * lanes + first + 4)
            with pytest.raises(ans.Empty):
                ans.pop_bytes(rest, 4000)


@pytest.mark.parametrize("content", [b"", b"\xff" * 9, bytes(10)])
def test_bytes_that_no_stack_packs_to_are_refused(content):
    with pytest.raises(ans.Empty):
        ans.unpack(content, 2)


def test_an_integer_law_is_the_normal_distribution():
    """Compares the mass of all bins, for several means; a wide law leaves no bin empty."""
    for sigma, step in ((0.3, 1024), (0.01, 40), (1.0, 4096)):
        fixed, mean = round(sigma * 2**24), np.array([0, 77, -12345])
        for wide in (False, True):
            law = normal_laws.law(step, fixed, wide)
            begin = normal_laws.first_bin(law, mean)
            edges = np.arange(2 * law.reach + 2)[:, None] + 0 * mean
            counts = normal_laws.counts_below(law, mean, begin, edges)
            assert (counts[0] == 0).all() and (counts[-1] == 1 << normal_laws.PRECISION).all()
            assert (np.diff(counts, axis=0) >= law.least).all()
            ideal = stats.norm.cdf(((begin + edges - 0.5) * step - mean) / 65536 / sigma)
            off = np.abs(counts / 2.0**normal_laws.PRECISION - ideal)
            assert off.max() < (2e-6 if not wide else 2e-4)


def test_popped_latents_are_normal_and_never_far_from_the_mean():
    """With least counts in a wide window, some would be uniform over it."""
    law, mean = normal_laws.law(1024, 1 << 22, False), np.full(60000, 4321)
    before = ans.from_bytes(np.random.default_rng(0).bytes(60000), 48)
    values, stack = normal_laws.pop(before, law, mean)
    away = (values - mean) / 65536 / 0.25
    assert (
        stats.kstest(away + np.random.default_rng(1).uniform(-0.5, 0.5, 60000) / 16, "norm").pvalue
        > 1e-3
    )
    assert np.abs(away).max() < 5.5
    assert same(normal_laws.push(stack, law, mean, values), before)
    with pytest.raises(normal_laws.Outside):
        normal_laws.push(stack, law, mean, values + 1024 * 1000)


@pytest.mark.parametrize("wide", [False, True])
def test_the_guessed_edge_is_the_one_that_bisection_finds(wide):
    law, random = normal_laws.law(1000, 3 << 20, wide), np.random.default_rng(0)
    mean, low = (
        random.integers(-99999, 99999, 5000),
        random.integers(0, 1 << normal_laws.PRECISION, 5000),
    )
    low[:4] = 0, 1, (1 << normal_laws.PRECISION) - 1, 300
    begin = normal_laws.first_bin(law, mean)
    edge, start, size = normal_laws.bisect(law, mean, begin, low)
    assert ((start <= low) & (low < start + size)).all() and (size > 0).all()
    near = normal_laws.guess_edges(law, mean, begin, low) - edge
    assert (np.abs(near) <= 1).mean() > 0.99


def test_the_mean_of_x_t_given_x_s_is_that_of_the_diffusion():
    of, plan = normal_laws.chain_laws(codec(SMALL)), codec(SMALL).calibration
    abar = SCHED.alpha_bar[[*plan.times, 0]]
    np.testing.assert_allclose(
        np.array(of.scale) / 2.0**24, np.sqrt(abar[:-1] / abar[1:]), atol=1e-7
    )
    spread = np.array([2.0**23 / law.inverse for law in of.q])
    np.testing.assert_allclose(spread, np.sqrt(1 - abar[:-1] / abar[1:]), rtol=1e-3)


def test_an_image_pushed_onto_a_stack_is_popped_unchanged():
    """So is one of noise, with escapes; and the stack is left as it was."""
    of = codec(SMALL)
    noise = np.random.default_rng(0).integers(0, 256, SMALL).astype(np.uint8)
    before = ans.from_bytes(np.random.default_rng(0).bytes(600), 3)
    for image in (*images(SMALL, 2), noise // 2 + 64):
        stack = bits_back.push(before, image, of, normal_laws.chain_laws(of), 0.0)
        found, rest = bits_back.pop(stack, of, normal_laws.chain_laws(of))
        assert (found == image).all() and same(rest, before)
    with pytest.raises(ans.Empty):
        bits_back.push(ans.from_bytes(bytes(50), 3), image, of, normal_laws.chain_laws(of), 0.0)


@pytest.mark.slow
def test_an_image_costs_its_bound_and_not_less():
    """The net bits of images on a stack agree with the library's bound, by exact draws, within three standard errors.

    Half a percent is allowed because the last layer differs from the bound's.

    Slow, as only many images average out the noise of the estimate.
    """
    of, many, stack = (
        codec(SMALL),
        images(SMALL, 20),
        ans.from_bytes(np.random.default_rng(0).bytes(2000), 6),
    )
    sizes = [8 * len(ans.pack(stack))]
    for image in many:
        stack = bits_back.push(stack, image, of, normal_laws.chain_laws(of), 0.0)
        sizes.append(8 * len(ans.pack(stack)))
    # Different draws for each image, or their errors would not average out.
    draws = [
        [
            measure.bound(SCHED, of.calibration, predict, image, LEVELS, int(seed)).total
            for seed in seeds
        ]
        for image, seeds in zip(many, np.arange(40).reshape(-1, 2), strict=True)
    ]
    ratios = np.diff(sizes) / np.mean(draws, axis=1)
    error = ratios.std(ddof=1) / np.sqrt(len(ratios))
    assert error < 0.01 and abs(ratios.mean() - 1.0) < 3 * error + 0.005


def test_latents_have_the_noise_of_q_whatever_is_on_the_stack():
    """Popped off zeros, ones or random bits, the noise is white and has q's variance."""
    of, shape = codec(MIDDLE), MIDDLE
    step = len(of.calibration.times) - 1
    for content in (bytes(3000), b"\xff" * 3000, np.random.default_rng(0).bytes(3000)):
        x_0 = bits_back.fixed_point_image(images(shape, 1)[0], LEVELS)
        x, _ = bits_back.pop_latent(
            ans.from_bytes(content, 24), of, normal_laws.chain_laws(of), step, x_0
        )
        noise = x / 65536.0 - np.sqrt(SCHED.alpha_bar[1]) * x_0 / 65536.0
        noise = (noise / np.sqrt(1 - SCHED.alpha_bar[1])).reshape(-1)
        assert stats.kstest(noise, "norm").pvalue > 1e-3
        assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.12
