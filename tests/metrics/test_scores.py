"""Distances between clouds of vectors, and the files that statistics come in."""

import itertools
import json
import re

import numpy as np
import pytest
from scipy import linalg, stats
from support import peers

from ddpm_jax.metrics import frechet, precision_recall, reference
from ddpm_jax.metrics import kid as kid_metric
from ddpm_jax.metrics.features import Embedding, Features, Space, Statistics, pixels
from ddpm_jax.metrics.inception_score import inception_score


def cloud(count=60, dimensions=5, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions))
    return (rng.normal(size=(count, dimensions)) @ mixing + shift).astype(np.float32)


def gaussian(mean, covariance):
    return Statistics(np.asarray(mean, np.float64), np.asarray(covariance, np.float64), 100)


def rotation(dimensions, seed=1):
    return stats.special_ortho_group.rvs(dimensions, random_state=seed)


# The Frechet distance


def test_statistics_are_numpys():
    vectors = cloud(9000)  # more than a chunk
    found = frechet.statistics(vectors)
    np.testing.assert_allclose(found.mean, vectors.astype(np.float64).mean(0), rtol=1e-13)
    np.testing.assert_allclose(
        found.covariance, np.cov(vectors.astype(np.float64), rowvar=False), rtol=1e-12, atol=1e-13
    )
    assert found.count == 9000 and found.mean.dtype == found.covariance.dtype == np.float64


@pytest.mark.parametrize("sizes", [(1, 59), (20, 20, 20), (0, 60)])
def test_sums_do_not_care_how_the_vectors_came(sizes):
    vectors = cloud()
    parts = np.split(vectors, np.cumsum(sizes)[:-1])
    added = combined = frechet.empty(5)
    for part in parts:
        added = frechet.add(added, part)
        combined = frechet.combine(frechet.add(frechet.empty(5), part), combined)
    for found in frechet.finish(added), frechet.finish(combined):
        for a, b in zip(found, frechet.statistics(vectors), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_adding_changes_no_sums_that_somebody_holds():
    before = frechet.add(frechet.empty(5), cloud())
    copy = [np.copy(part) for part in before]
    frechet.add(before, cloud(seed=1))
    for a, b in zip(before, copy, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_distance_of_diagonal_gaussians_is_that_of_their_standard_deviations():
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 0.25])
    found = frechet.distance(gaussian([0, 1, 2], np.diag(a)), gaussian([1, 1, 0], np.diag(b)))
    assert found == pytest.approx(1 + 4 + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rel=1e-12)


def test_the_distance_of_commuting_gaussians_is_that_of_their_roots():
    turn = rotation(6)
    a, b = np.arange(1.0, 7.0), np.arange(7.0, 1.0, -1.0)
    found = frechet.distance(
        gaussian(np.zeros(6), turn * a @ turn.T), gaussian(np.zeros(6), turn * b @ turn.T)
    )
    assert found == pytest.approx(np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rel=1e-10)


def test_a_cloud_is_at_no_distance_from_itself_and_a_shift_adds_its_square():
    a = frechet.statistics(cloud())
    shifted = a._replace(mean=a.mean + np.array([3.0, 0.0, 4.0, 0.0, 0.0]))
    assert frechet.distance(a, a) == pytest.approx(0.0, abs=1e-10)
    assert frechet.distance(a, shifted) == pytest.approx(25.0, rel=1e-10)


def test_the_distance_is_symmetric_and_blind_to_rotation():
    x, y = cloud(), cloud(seed=2, shift=1.0)
    turn = rotation(5).astype(np.float32)
    found = frechet.distance(frechet.statistics(x), frechet.statistics(y))
    back = frechet.distance(frechet.statistics(y), frechet.statistics(x))
    turned = frechet.distance(frechet.statistics(x @ turn), frechet.statistics(y @ turn))
    assert found == pytest.approx(back, rel=1e-10) == pytest.approx(turned, rel=1e-5)


@pytest.mark.parametrize("count", [400, 20], ids=["full rank", "fewer images than dimensions"])
def test_the_distance_is_that_of_scipys_matrix_root(count):
    a = frechet.statistics(cloud(count, 48))
    b = frechet.statistics(cloud(count, 48, seed=3, shift=0.3))
    root = linalg.sqrtm(a.covariance @ b.covariance).real
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet.distance(a, b) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: frechet.statistics(cloud(1)), "at least 2 images; there are 1"),
        (lambda: frechet.statistics(np.full((3, 2), np.nan)), "3 of 3 are not finite"),
        (lambda: frechet.add(frechet.empty(4), cloud()), "5 dimensions among ones of 4"),
        (lambda: frechet.combine(frechet.empty(4), frechet.empty(5)), "not of one space"),
        (lambda: frechet.distance(gaussian([0], [[1]]), gaussian([0, 0], np.eye(2))), "of 1 and"),
        (lambda: kid_metric.distance(cloud(), cloud(dimensions=4)), "of 5 and of 4 dimensions"),
        (lambda: kid_metric.distance(cloud(), cloud(1)), "at least 2 images; they have 1"),
        (lambda: precision_recall.precision_recall(cloud(3), cloud()), "k = 3 need more than 3"),
        (lambda: precision_recall.precision_recall(cloud() * np.inf, cloud()), "not finite"),
        (lambda: inception_score(cloud(4)), "of 4 images cannot have 10 splits"),
        (lambda: inception_score(cloud() * np.nan), "logits: 60 of 60 are not finite"),
    ],
)
def test_what_has_no_score_says_so(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# The kernel distance


def test_the_kernel_estimate_is_the_mean_over_pairs():
    x, y = (cloud(7).astype(np.float64), cloud(9, seed=1).astype(np.float64))

    def k(a, b):
        return (sum(a * b) / 5 + 1) ** 3

    among = [np.mean([k(a, b) for a, b in itertools.permutations(list(z), 2)]) for z in (x, y)]
    between = np.mean([k(a, b) for a in x for b in y])
    assert kid_metric.mmd(x, y) == pytest.approx(sum(among) - 2 * between, rel=1e-12)


def test_the_kernel_estimate_has_no_bias():
    """Clouds of one law are at distance 0 on average, for any number of images."""
    rng = np.random.default_rng(0)
    found = [kid_metric.mmd(*rng.normal(size=(2, 8, 3))) for _ in range(4000)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_subsets_are_no_larger_than_a_cloud_and_belong_to_a_seed():
    x, y = cloud(), cloud(40, seed=1)
    found = kid_metric.distance(x, y, subsets=3)
    assert (found.subsets, found.size) == (3, 40)
    small = [kid_metric.distance(x, y, subsets=3, size=10, seed=seed).mean for seed in (0, 0, 1)]
    assert small[0] == small[1] != small[2]


def test_a_set_that_is_its_own_only_subset_has_no_deviation():
    """Else its subsets would differ by rounding alone."""
    x, y = cloud(), cloud(seed=1)
    expected = kid_metric.mmd(x.astype(np.float64), y.astype(np.float64))
    assert kid_metric.distance(x, y) == (expected, None, 1, len(x))
    for other in (kid_metric.distance(x, y, size=20), kid_metric.distance(x, cloud(90))):
        assert other.std > 1e-3


# Precision and recall


def brute_force(samples, data, k):
    def share(x, centres):
        def radius(c):
            return sorted(np.linalg.norm(centres - c, axis=1))[k]

        radii = [radius(c) for c in centres]
        inside = [
            any(np.linalg.norm(a - c) <= r for c, r in zip(centres, radii, strict=True)) for a in x
        ]
        return np.mean(inside)

    return share(samples, data), share(data, samples)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_the_definition(k, monkeypatch):
    monkeypatch.setattr(precision_recall, "CHUNK", 7)
    samples, data = cloud(30), cloud(40, seed=1, shift=0.5)
    found = precision_recall.precision_recall(samples, data, k)
    assert tuple(found) == pytest.approx(brute_force(samples, data, k))
    assert 0 < found.precision < 1


def test_a_cloud_is_on_its_own_manifold_and_a_far_one_is_not():
    x = cloud()
    assert precision_recall.precision_recall(x, x) == (1.0, 1.0)
    assert precision_recall.precision_recall(x, x + 1e3) == (0.0, 0.0)


def test_samples_of_half_the_data_are_precise_and_forget_the_rest():
    two = np.concatenate([cloud(50), cloud(50, shift=100.0)])
    precision, recall = precision_recall.precision_recall(two[:50], two)
    assert (precision, recall) == (1.0, 0.5)


# The Inception Score


def test_uniform_predictions_score_one_and_certain_balanced_ones_the_number_of_classes():
    assert inception_score(np.zeros((50, 7))) == pytest.approx((1.0, 0.0))
    certain = np.tile(1e4 * np.eye(7, dtype=np.float32), (20, 1))
    assert inception_score(certain) == pytest.approx((7.0, 0.0))


def test_splits_are_in_the_order_given():
    """Each of the ten splits here holds one class only, and so scores 1."""
    certain = 1e4 * np.repeat(np.eye(10), 5, axis=0)
    assert inception_score(certain) == pytest.approx((1.0, 0.0))
    assert inception_score(certain, splits=1) == pytest.approx((10.0, 0.0))


# torch-fidelity


@pytest.mark.slow
def test_scores_are_torch_fidelitys():
    """Against torch-fidelity itself."""
    fid, kid = peers.torch_fidelity("metric_fid"), peers.torch_fidelity("metric_kid")
    isc, prc = peers.torch_fidelity("metric_isc"), peers.torch_fidelity("metric_prc")
    import torch

    x, y = cloud(300, 32), cloud(280, 32, seed=1, shift=0.2)
    a, b = (torch.from_numpy(z.astype(np.float64)) for z in (x, y))
    theirs = [fid.fid_features_to_statistics(z) for z in (a, b)]
    found = frechet.distance(frechet.statistics(x), frechet.statistics(y))
    expected = fid.fid_statistics_to_metric(*theirs, verbose=False)
    assert found == pytest.approx(expected["frechet_inception_distance"], rel=1e-10)

    options = {"kid_subsets": 5, "kid_subset_size": 100, "rng_seed": 7, "verbose": False}
    expected = list(kid.kid_features_to_metric(a, b, **options).values())
    found = kid_metric.distance(x, y, subsets=5, size=100, seed=7)
    assert found[:2] == pytest.approx(expected, rel=1e-10)

    expected = isc.isc_features_to_metric(a, splits=10, shuffle=False)
    assert inception_score(x) == pytest.approx(list(expected.values()), rel=1e-10)

    for save in (True, False):
        options = {"prc_neighborhood": 3, "prc_batch_size": 70, "save_cpu_ram": save}
        expected = prc.prc_features_to_metric(a, b, **options, verbose=False)
        found = precision_recall.precision_recall(x, y)
        assert tuple(found) == pytest.approx((expected["precision"], expected["recall"]), abs=1e-6)


# Statistics in files

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 2, 2, 1)).astype(np.uint8)
SHAPE = (2, 2, 1)


def of_images():
    return frechet.statistics(pixels().features(IMAGES).vectors)


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_our_statistics_come_back_with_what_they_are_of(tmp_path):
    data = {"name": "digits", "split": "train"}
    spatial = frechet.statistics(cloud(12))
    np.savez(
        tmp_path / "own.npz", **reference.pack(Embedding(of_images(), spatial), pixels(), data)
    )
    found = reference.read(tmp_path / "own.npz", pixels(), SHAPE)
    same(found.statistics, of_images())
    same(found.spatial, spatial)
    assert found.record == {"space": "pixels", "settings": {}, "data": data}


def test_our_statistics_are_a_file_that_others_read(tmp_path):
    np.savez(tmp_path / "own.npz", **reference.pack(Embedding(of_images()), pixels(), "digits"))
    with np.load(tmp_path / "own.npz") as theirs:
        np.testing.assert_array_equal(theirs["mu"], of_images().mean)
        np.testing.assert_array_equal(theirs["sigma"], of_images().covariance)


def test_foreign_statistics_are_read_and_unrecorded(tmp_path):
    own, vectors = of_images(), pixels().features(IMAGES).vectors
    np.savez(tmp_path / "ttur.npz", mu=own.mean, sigma=own.covariance)
    np.savez(tmp_path / "score_sde.npz", pool_3=vectors)
    np.savez(tmp_path / "openai.npz", arr_0=IMAGES, mu=own.mean, sigma=own.covariance)
    for name, count in ("ttur", 0), ("score_sde", 12), ("openai", 0):
        found = reference.read(tmp_path / f"{name}.npz", pixels(), SHAPE)
        same(found.statistics, own._replace(count=count))
        assert found.record is None, name
        assert (found.vectors is None) == (name != "score_sde")


def test_images_are_put_into_the_space(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "CHUNK", 5)
    np.savez(tmp_path / "samples.npz", IMAGES)
    found = reference.read(tmp_path / "samples.npz", pixels(), SHAPE)
    same(found.statistics, of_images())
    np.testing.assert_array_equal(found.vectors, pixels().features(IMAGES).vectors)
    assert found.record["space"] == "pixels"


def test_the_spatial_features_of_images_are_kept_too(tmp_path):
    def features(images):
        vectors = pixels().features(images).vectors
        return Features(vectors, spatial=vectors[:, :2])

    np.savez(tmp_path / "samples.npz", IMAGES)
    found = reference.read(tmp_path / "samples.npz", Space("two", {}, features), SHAPE)
    same(found.spatial, frechet.statistics(found.vectors[:, :2]))


def record(space="pixels", settings=()):
    text = json.dumps({"space": space, "settings": dict(settings), "data": ""})
    return {"mu": np.zeros(4), "sigma": np.eye(4), "record": text}


BAD = {
    "another space": (record("inception"), "another space inception (here pixels)"),
    "other settings": (record(settings={"resize": "x"}), "another resize x (here unset)"),
    "dimensions": ({"mu": np.zeros(3), "sigma": np.eye(3)}, "3 dimensions, those of pixels 4"),
    "features' dimensions": ({"pool_3": np.ones((5, 3))}, "3 dimensions, those of pixels 4"),
    "no square": ({"mu": np.zeros(4), "sigma": np.ones((4, 3))}, "its covariance (4, 3)"),
    "NaN": ({"mu": np.full(4, np.nan), "sigma": np.eye(4)}, "its mean has numbers that are not"),
    "integers": ({"mu": np.zeros(4, int), "sigma": np.eye(4)}, "its mean has numbers that are not"),
    "NaN features": ({"pool_3": np.full((5, 4), np.nan)}, "5 of 5 are not finite"),
    "no rows": ({"pool_3": np.ones(4)}, "not two or more rows of features"),
    "one row": ({"pool_3": np.ones((1, 4))}, "not two or more rows of features"),
    "float images": ({"arr_0": np.zeros((5, 2, 2, 1))}, "not two or more uint8 images"),
    "one image": ({"arr_0": IMAGES[:1]}, "not two or more uint8 images"),
    "something else": ({"weights": np.ones(3)}, "it holds weights, not mu and sigma"),
    "no sigma": ({"mu": np.zeros(4)}, "sigma"),
    "pickled": ({"mu": np.array([{}], object), "sigma": np.eye(4)}, "allow_pickle"),
}

OF_A_SPACE = (
    "another space",
    "other settings",
    "dimensions",
    "features' dimensions",
    "NaN features",
)


@pytest.mark.parametrize("name", BAD)
def test_statistics_that_mislead_are_refused(tmp_path, name):
    arrays, words = BAD[name]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError) as caught:
        reference.read(tmp_path / "bad.npz", pixels(), SHAPE)
    assert words in str(caught.value) and "bad.npz" in str(caught.value)
    if name in OF_A_SPACE:
        reference.check(tmp_path / "bad.npz")
    else:
        with pytest.raises(ValueError, match=re.escape(words)):
            reference.check(tmp_path / "bad.npz")


FILES = {
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "page": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
    "empty": (b"", "is empty"),
    "text": (b"mu, sigma", "is not an .npz file"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_statistics_say_what_they_are(tmp_path, name):
    content, words = FILES[name]
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        reference.read(tmp_path / "bad.npz", pixels(), SHAPE)


def test_a_missing_file_a_folder_and_one_cut_short_anywhere_are_refused(tmp_path):
    np.savez(tmp_path / "own.npz", **reference.pack(Embedding(of_images()), pixels(), "digits"))
    content = (tmp_path / "own.npz").read_bytes()
    for path in tmp_path / "none.npz", tmp_path:
        with pytest.raises(ValueError, match="does not exist|is a folder"):
            reference.read(path, pixels(), SHAPE)
    for length in range(4, len(content), 50):
        (tmp_path / "cut.npz").write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut.npz is truncated or damaged"):
            reference.read(tmp_path / "cut.npz", pixels(), SHAPE)
