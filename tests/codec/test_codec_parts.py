"""The codec's parts, each by itself: shared noise, range coder, trellis, last layer, schedule, header."""

import itertools

import numpy as np
import pytest
from scipy import stats
from support.gaussian_source import SCHED, error

from ddpm_jax.codec import calibration, chain, file_header, last_layer
from ddpm_jax.codec.errors import (
    CodecError,
    EnvironmentMismatch,
    HeaderCorrupt,
    NotADjxFile,
    TruncatedStream,
    UnsupportedVersion,
)
from ddpm_jax.codec.primitives import range_coder, shared_noise, trellis

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    "key, counter, out",
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers_of_its_authors(key, counter, out):
    first, second = (np.array([each], np.uint32) for each in counter)
    assert tuple(int(each[0]) for each in shared_noise.threefry(key, first, second)) == out


def test_the_normal_table_is_the_normal_distribution(monkeypatch):
    table = shared_noise.normal_table() / 4096.0
    assert (np.diff(table) >= 0).all() and (table == -table[::-1]).all()
    assert abs(table.var() - 1.0) < 1e-4
    values = shared_noise.normal(shared_noise.make_key("test"), 20000) / 4096.0
    assert stats.kstest(values, "norm").pvalue > 1e-3
    with pytest.raises(EnvironmentMismatch, match="another scipy"):
        shared_noise.check_table(
            shared_noise.normal_table() + np.int16(1),
            shared_noise.NORMAL_SHA256,
            "the normal table",
        )


def test_keys_depend_on_every_part_and_on_where_parts_end():
    keys = [
        shared_noise.make_key(*parts)
        for parts in ((1, 2), (12,), (1, 3), (b"1", "2", 3), ("", 1, 2))
    ]
    assert len(set(keys)) == len(keys)


def test_permutations_and_signs_are_fair():
    order = shared_noise.permutation(shared_noise.make_key("order"), 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert abs(shared_noise.signs(shared_noise.make_key("sign"), 10000).mean()) < 0.04
    drawn = shared_noise.uniform_below(shared_noise.make_key("below"), np.full(10000, 7))
    assert np.bincount(drawn, minlength=7).min() > 1250 and drawn.max() == 6


@pytest.mark.parametrize("seed", range(20))
def test_the_range_coder_returns_its_input_at_the_ideal_length(seed):
    """With intervals of one in 65536, carries, and runs of symbols that cost nothing."""
    random = np.random.default_rng(seed)
    totals = random.integers(1, 65537, 400)
    sizes = np.where(random.random(400) < 0.3, totals, 1 + (totals - 1) * random.random(400) ** 9)
    starts = ((totals - sizes.astype(int)) * random.choice([0, 1, random.random()], 400)).astype(
        int
    )
    given = list(zip(starts.tolist(), sizes.astype(int).tolist(), totals.tolist(), strict=True))
    coder = range_coder.encoder()
    for interval in given:
        range_coder.encode(coder, *interval)
    stream = range_coder.finish(coder)
    reader = range_coder.decoder(stream)
    for start, size, total in given:
        assert start <= range_coder.target(reader, total) < start + size
        range_coder.decode(reader, start, size, total)
    ideal = sum(np.log2(total / size) for _, size, total in given) / 8
    assert len(stream) <= ideal * 1.002 + 1


@pytest.mark.parametrize("bits, draws", [(6, 1), (200, 4), (900, 2)])
def test_a_path_carries_nearly_as_much_as_it_has_bits(bits, draws):
    """log q/p of a path's noise, in bits, is nearly that of the best of 2^bits random draws: 'bits'.

    Every path delivers at least 0.92 of the shift.
    """
    dims, carried = 3072, []
    for number in range(draws):
        mean = np.random.default_rng(bits + number).normal(size=dims)
        mean *= np.sqrt(2 * np.log(2) * bits / 1.06 / (mean @ mean))
        given = trellis.make_branches(
            (b"model", number, 1), dims, max(bits, trellis.min_branches(dims)), 12
        )
        z = trellis.noise(given, trellis.search(given, mean, 1.0)) * trellis.SCALE
        carried.append((z @ mean - 0.5 * mean @ mean) / np.log(2) / bits)
        assert bits < 200 or 0.92 < z @ mean / (mean @ mean) < 1.05
        assert stats.kstest(z - mean, "norm").pvalue > 1e-4
        assert 0.93 < (z - mean).var() < 1.07
    assert bits < 200 or np.mean(carried) > 0.88


def test_viterbi_finds_the_best_of_all_paths():
    dims, count, nu = 12, 5, 8
    random = np.random.default_rng(0)
    mean, rho2 = random.normal(size=dims), 0.6
    given = trellis.make_branches((b"model", 3, 2), dims, count, nu)

    def score(path):
        z = trellis.noise(given, np.array(path, np.uint8)) * trellis.SCALE
        return float((0.5 * z * z - 0.5 * (z - mean) ** 2 / rho2).sum())

    every = {path: score(path) for path in itertools.product((0, 1), repeat=count)}
    assert tuple(trellis.search(given, mean, rho2)) == max(every, key=every.get)


def test_viterbi_finds_the_best_path_longer_than_its_memory():
    """After nu bits, paths meet again."""
    dims, count, nu = 20, 11, 8
    mean = np.random.default_rng(1).normal(size=dims)
    given = trellis.make_branches((b"model", 3, 2), dims, count, nu)

    def score(path):
        z = trellis.noise(given, np.array(path, np.uint8)) * trellis.SCALE
        return float(z @ mean)

    found = score(trellis.search(given, mean, 1.0))
    best = max(score(path) for path in itertools.product((0, 1), repeat=count))
    assert found == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("spread", [0.3, 4.0, 70.0])
def test_the_last_layer_returns_every_image(levels, spread):
    random = np.random.default_rng(levels)
    grid = random.integers(-1024, 1025, (6, 6, 3))
    off = np.round((grid / 1024 + 1) * (levels - 1) / 2 + spread * random.normal(size=grid.shape))
    image = np.clip(off, 0, levels - 1).astype(np.uint8)
    scale, stream = last_layer.encode(grid, image, levels)
    found, told = last_layer.decode(grid, scale, stream, levels, True)
    assert (found == image).all() and told == image.size
    before = 0
    for length in range(len(stream)):
        part, told = last_layer.decode(grid, scale, stream[:length], levels, False)
        assert (part.reshape(-1)[:told] == image.reshape(-1)[:told]).all()
        rest = last_layer.nearest_levels(grid, levels).reshape(-1)[told:]
        assert (part.reshape(-1)[told:] == rest).all() and told >= before
        before = told


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_laws_of_the_last_layer_sum_to_one(levels):
    """At every mean the symbols tile 0..65535; black and white include everything beyond them."""
    grid = np.arange(-1024, 1025).reshape(-1, 1, 1)
    law = last_layer.pixel_laws(grid, levels)
    first, last = last_layer.extremes(law)
    for scale in (0, 10, 31):
        before = np.zeros(len(first), np.int64)
        for symbol in range(last_layer.SYMBOLS):
            start, end = last_layer.intervals(law, scale, np.full(len(first), symbol))
            there = (first <= symbol) & (symbol <= last)
            assert (start == before)[there].all() and (end > start)[there].all()
            before = np.where(there, end, before)
        assert (before == last_layer.TOTAL).all()


def test_the_steps_are_the_cheapest_of_all_choices():
    cost = np.where(np.tri(7, k=-1, dtype=bool), np.random.default_rng(2).random((7, 7)), np.inf)
    ways = [
        (7, *reversed(middle), 1)
        for count in range(4)
        for middle in itertools.combinations(range(2, 7), count)
    ]
    total = {way: sum(cost[t - 1, s - 1] for t, s in itertools.pairwise(way)) for way in ways}
    assert calibration.cheapest_times(cost, 4) == min(total, key=total.get)


def test_the_calibrated_variance_minimizes_the_kl():
    """Any other variance has a larger KL(q || p), and this one has the KL that the schedule was chosen by."""
    plan = calibration.plan_steps(SCHED, error((8, 8, 3)), 192)
    v, t, s = error((8, 8, 3)), np.array(plan.times[:-1]), np.array(plan.times[1:])
    of_x_0, sigma = plan.of_x_0 / 2.0**24, plan.sigma / 2.0**24
    posterior = plan.rho2 * sigma**2

    def kl(variance):
        gap = (posterior + of_x_0**2 * v[t - 1]) / variance
        return 0.5 * (gap - 1 + np.log(variance / posterior)) / np.log(2)

    bits = calibration.transition_costs(SCHED, v)[t - 1, s - 1]
    np.testing.assert_allclose(kl(sigma**2), bits, rtol=1e-4)
    assert (kl(1.1 * sigma**2) > bits).all() and (kl(0.9 * sigma**2) > bits).all()


def test_bit_counts_move_in_eighths_of_octaves_between_their_limits():
    counts = [chain.branch_count(100, q, 3072) for q in range(-24, 40)]
    assert counts == sorted(counts) and chain.branch_count(100, 0, 3072) == 100
    assert chain.branch_count(100, 8, 3072) == 200 and chain.branch_count(100, -8, 3072) == 50
    assert chain.branch_count(100, 128, 3072) == 3072 and chain.branch_count(100, -128, 3072) == 32


def test_changes_of_a_count_are_read_as_they_were_written():
    changes = [0, -1, 1, -2, 2, 17, -128, 128]
    bits = np.array(sum(map(chain.unary_code, changes), []), np.uint8)
    reader = chain.Reader(bits, [0])
    assert [chain.read_unary(reader) for _ in changes] == changes
    with pytest.raises(chain.EndOfBits):
        chain.read_unary(reader)
    with pytest.raises(CodecError, match="does not end"):
        chain.read_unary(chain.Reader(np.ones(10**6, np.uint8), [0]))


HEADER = file_header.Header(True, 12, 30, b"8 bytes.", 3, 9, (32, 32, 3), 1500, 0xDEADBEEF, b"")


@pytest.mark.parametrize(
    "header", [HEADER, HEADER._replace(environment=b"here"), HEADER._replace(payload=0)]
)
def test_a_header_is_read_as_it_was_written(header):
    packed = file_header.pack(header)
    assert file_header.unpack(packed + b"payload") == (header, len(packed))
    assert len(packed) <= 34


def test_a_header_with_any_byte_changed_or_missing_is_refused():
    packed = file_header.pack(HEADER)
    for place in range(len(packed)):
        for bit in range(8):
            changed = bytearray(packed)
            changed[place] ^= 1 << bit
            with pytest.raises((NotADjxFile, UnsupportedVersion, HeaderCorrupt, TruncatedStream)):
                file_header.unpack(bytes(changed))
        with pytest.raises((NotADjxFile, TruncatedStream)):
            file_header.unpack(packed[:place])


@pytest.mark.parametrize(
    "field, value",
    [("shape", (2**20, 2**20, 3)), ("shape", (0, 8, 1)), ("nu", 60), ("steps", 0), ("scale", 99)],
)
def test_numbers_that_no_file_has_are_refused_even_if_the_checksum_is_right(field, value):
    with pytest.raises(HeaderCorrupt):
        file_header.unpack(file_header.pack(HEADER._replace(**{field: value})))
