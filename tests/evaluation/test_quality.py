"""Scores of samples, from files and from a run's own."""

import json

import numpy as np
import pytest
from conftest import load
from etils import epath
from PIL import Image
from support import events, own_code
from support.stub import stubbed

from ddpm_jax.config import build
from ddpm_jax.datasets import batches, pixels
from ddpm_jax.datasets import source as sources
from ddpm_jax.evaluation import follow, metric_table, quality, quality_file
from ddpm_jax.metrics import frechet, inception_score, small_classifier
from ddpm_jax.metrics.features import Embedding, Space
from ddpm_jax.metrics.metric import Value
from ddpm_jax.run import sampling
from ddpm_jax.training import train


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A run of two steps, and all its training images as 0..255."""
    return tmp_path_factory.mktemp("run")


def run_of(tiny, folder, trained=True, **fields):
    tiny.update_from_flattened_dict({f"eval.quality.{name}": v for name, v in fields.items()})
    run = stubbed(build.run(tiny, epath.Path(folder)))
    if trained and not (folder / "checkpoints").exists():
        train.train(run._replace(train=run.train._replace(steps=2)))
    return run


def real(tiny, split="train"):
    source = batches.load(sources.open_data_set("digits", tiny.data.data_dir, split, 8))
    return pixels.stretch(source.records, source.levels)


def record(folder):
    return json.loads((folder / "eval" / "2-quality.json").read_text())


def test_the_training_images_themselves_are_at_distance_nought(tiny, trained, tmp_path):
    np.savez(tmp_path / "some.npz", real(tiny))
    for space in ("pixels", "classifier"):
        path = str(tmp_path / "some.npz")
        own = ("support.own_code:SPREAD",)
        run = run_of(tiny, trained, samples=2000, path=path, space=space, metrics=own)
        quality.quality(run)
        found = record(trained)
        assert quality.find(run, 2) == found["scores"]
        scores = found["scores"]
        assert abs(scores[f"frechet_{space}_1437_train"]) < 1e-4
        assert scores[f"precision_{space}_1437_train"] == 1.0
        assert scores[f"recall_{space}_1437_train"] == 1.0
        assert scores[f"spread_{space}_1437"] == pytest.approx(scores[f"spread_{space}_1437_train"])
        floor = scores[f"floor_frechet_{space}_test_360_train"]
        assert scores[f"frechet_{space}_1437_test"] == pytest.approx(floor, rel=1e-4)
        assert found["few_samples"] and found["samples"] == 1437
        assert found["samples_from"] == path
    assert found["earlier"][0]["space"] == "pixels" and found["space"] == "classifier"
    assert scores["is_classifier_1437"] == pytest.approx(scores["is_classifier_1437_train"])


def test_noise_is_far_and_the_reference_is_computed_once(tiny, trained, tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1)).astype(np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    run = run_of(tiny, trained, samples=300, path=str(tmp_path / "noise.npy"), space="pixels")
    quality.quality(run)
    first = record(trained)
    scores = first["scores"]
    assert scores["frechet_pixels_300_train"] > 20 * scores["floor_frechet_pixels_test_360_train"]
    assert scores["precision_pixels_300_train"] == 0.0
    monkeypatch.setattr(batches, "load", None)  # it would raise if the data were read again
    quality.quality(run)
    assert record(trained)["scores"] == scores
    (kept,) = (trained / "eval" / "reference").glob("pixels-train-*")
    kept.write_bytes(kept.read_bytes()[:-100])
    monkeypatch.undo()
    quality.quality(run)  # a damaged one is made again
    assert record(trained)["scores"] == scores
    assert not events.scalars(trained / "eval")  # no samples of this step


def test_its_own_samples_are_drawn_once(tiny, trained, capsys):
    run = run_of(tiny, trained, samples=12, path="", space="pixels")
    quality.quality(run)
    assert (trained / "samples" / "2-ancestral-8-12-seed0.npz").exists()
    found = record(trained)
    assert found["sampler"] == "ancestral-8" and found["weights"] == "ema" and found["seed"] == 0
    shown = {name: (step, value) for step, name, value in events.scalars(trained / "eval")}
    score = found["scores"]["frechet_pixels_12_train"]
    assert shown["frechet_pixels_12_train"] == (2, pytest.approx(score))
    said = capsys.readouterr().out
    assert "sampling 12 images" in said and "12 samples is a small set" in said
    quality.quality(run)
    assert "sampling" not in capsys.readouterr().out
    assert record(trained)["scores"] == found["scores"]


def test_a_measurement_stays_when_others_are_made(tiny, tmp_path, capsys):
    """Of other samples, of more of them, in another space, of a file that has changed; and what older versions wrote."""
    path, run = tmp_path / "eval" / "2-quality.json", run_of(tiny, trained=False, folder=tmp_path)
    old = {"scores": {"fid_8_train": 1.0}, "samples": 8, "space": "inception", "seconds": 1.0}
    path.parent.mkdir()
    path.write_text(json.dumps(old))
    everything, first = [old], {"scores": {"a": 1.0}, "seconds": 1.0, **quality.facts(run)}
    others = (
        {"samples_from": "x.npy"},
        {"samples": 9},
        {"space": "pixels"},
        {"samples_checksum": "0"},
    )
    for fields in ({}, *others):
        quality_file.write(run, 2, first | fields)
        everything.insert(0, first | fields)
        assert record(tmp_path) == everything[0] | {"earlier": everything[1:]}
    again = first | {"scores": {"a": 2.0}, "seconds": 2.0}
    quality_file.write(run, 2, again)
    everything.remove(first)
    assert quality_file.read(run, 2) == [again, *everything]
    for damaged in ("{", "3", '{"earlier": null}', '{"earlier": [3]}'):
        path.write_text(damaged)
        quality_file.write(run, 2, first)
        assert "2-quality.json is damaged" in capsys.readouterr().out
        assert record(tmp_path) == first | {"earlier": []}


def test_a_folder_of_pictures_and_an_array_say_the_same(tiny, trained, tmp_path):
    images = real(tiny, "test")[:20]
    (tmp_path / "folder").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / "folder" / f"{i:02d}.png")
    np.save(tmp_path / "some.npy", images)
    found = []
    for name in ("folder", "some.npy"):
        run = run_of(tiny, trained, samples=20, path=str(tmp_path / name), space="pixels")
        quality.quality(run)
        found.append(record(trained)["scores"])
    assert found[0] == found[1]


def test_statistics_made_elsewhere_are_used_for_the_training_images(tiny, trained, tmp_path):
    images = real(tiny).reshape(1437, -1) / 255.0
    path = tmp_path / "stats.npz"
    np.savez(path, mu=images.mean(0), sigma=np.cov(images.T))
    np.save(tmp_path / "some.npy", real(tiny, "test"))
    fields = {"samples": 360, "path": str(tmp_path / "some.npy"), "space": "pixels"}
    scores = []
    for reference in ("", str(path)):
        quality.quality(run_of(tiny, trained, reference=reference, **fields))
        scores.append(record(trained)["scores"])
    name = "frechet_pixels_360_train"
    assert scores[1][name] == pytest.approx(scores[0][name], rel=1e-3)
    assert "kid_pixels_360_train" not in scores[1]


def test_a_reference_of_one_run_serves_another_in_the_same_space_only(tiny, trained, tmp_path):
    np.save(tmp_path / "some.npy", real(tiny, "test"))
    fields = {"samples": 360, "path": str(tmp_path / "some.npy")}
    quality.quality(run_of(tiny, trained, space="pixels", **fields))
    before = record(trained)["scores"]["frechet_pixels_360_train"]
    (kept,) = (trained / "eval" / "reference").glob("pixels-train-*")
    quality.quality(run_of(tiny, trained, reference=str(kept), space="pixels", **fields))
    assert record(trained)["scores"]["frechet_pixels_360_train"] == before
    with pytest.raises(ValueError, match="another .*space pixels .here classifier"):
        quality.quality(run_of(tiny, trained, reference=str(kept), space="classifier", **fields))


def embedding_of(seed, shift):
    """A made-up image set with everything that a metric may need."""
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(200, 4)) + shift).astype(np.float32)
    certainty = 8.0 / (1.0 + abs(shift))
    return Embedding(
        statistics=frechet.statistics(vectors),
        spatial=frechet.statistics(vectors[:, :2]),
        vectors=vectors,
        inception_score=inception_score.inception_score(
            np.eye(5)[rng.integers(0, 5, 200)] * certainty
        ),
    )


@pytest.mark.parametrize("metric", metric_table.METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_better_for_samples_of_the_data_s_law_than_for_others(metric):
    good, bad, data = embedding_of(0, 0.0), embedding_of(1, 3.0), embedding_of(2, 0.0)
    against = (data,) if metric.needs_reference else ()
    good, bad = (metric.function(samples, *against).value for samples in (good, bad))
    assert metric.higher_is_better == (good > bad)
    for space in ("inception", "classifier"):
        value = {"value": good, "count": 200}
        (name,) = quality.name_value(metric, Space(space, {}, None), Value(**value), "train")
        assert metric_table.higher_is_better(name) == metric.higher_is_better


def test_a_metric_of_the_user_s_own_is_measured_beside_ours():
    one, data = embedding_of(0, 0.0), embedding_of(1, 0.0)
    ours = quality.measure(Space("pixels", {}, None), one, {"train": data})
    metrics = (*metric_table.METRICS, own_code.SPREAD)
    values = quality.measure(Space("pixels", {}, None), one, {"train": data}, metrics)
    names = "spread_pixels_200", "spread_pixels_200_train"
    spread = [np.trace(each.statistics.covariance) for each in (one, data)]
    assert [values.pop(name).value for name in names] == spread and values == ours


def test_the_longest_name_of_a_metric_says_which_direction_is_better():
    metrics = (*metric_table.METRICS, own_code.RECALL_LOSS, own_code.SPREAD)
    better = [
        metric_table.higher_is_better(f"{name}_pixels_8", metrics)
        for name in ("recall", "recall_loss", "spread", "unknown")
    ]
    assert better == [True, False, True, False]


def test_a_metric_of_the_user_s_own_has_a_name_of_its_own_and_may_choose_the_best(tiny, tmp_path):
    tiny.eval.quality.update(samples=8, space="pixels", metrics=("support.own_code:SPREAD",))
    tiny.eval.best = "spread"
    run = build.run(tiny, epath.Path(tmp_path))
    follow.check(run)
    assert list(quality.facts(run)["metrics"]) == ["support.own_code:SPREAD"]
    tiny.eval.quality.metrics = ("support.own_code:SECOND_KID",)
    with pytest.raises(ValueError, match="metrics named kid, as others are"):
        quality.check(build.run(tiny, epath.Path(tmp_path)))


def test_precision_and_recall_keep_their_names():
    """Samples of one half of the data: each is like the data, and half of the data has no like."""
    one, other = embedding_of(0, 0.0), embedding_of(1, 100.0)
    both = np.concatenate([one.vectors, other.vectors])
    data = one._replace(vectors=both, statistics=frechet.statistics(both))
    values = quality.measure(Space("inception", {}, None), one, {"train": data})
    assert values["precision_200_train"].value == 1.0
    assert values["recall_200_train"].value == 0.5


def test_in_inception_s_features_the_numbers_have_the_field_s_names():
    samples, data = embedding_of(0, 0.0), embedding_of(1, 0.0)
    many = samples._replace(statistics=samples.statistics._replace(count=50_000))
    numbers = quality.flatten(
        quality.measure(Space("inception", {}, None), many, {"train": data, "test": data})
    )
    assert list(numbers) == [
        *("is_50k", "is_50k_std"),
        *("fid_50k_train", "sfid_50k_train", "kid_200_train"),
        *("precision_200_train", "recall_200_train", "is_200_train", "is_200_train_std"),
        *("fid_50k_test", "sfid_50k_test", "kid_200_test"),
        *("precision_200_test", "recall_200_test", "is_200_test", "is_200_test_std"),
        "floor_fid_test_200_train",
    ]


def bad(folder, kind):
    """A path at which there is something that cannot be scored."""
    floats = np.zeros((4, 8, 8, 1), np.float32)
    np.savez(folder / "floats.npz", floats)
    np.savez(folder / "nan.npz", np.where(floats == 0, np.nan, floats))
    np.savez(folder / "large.npz", np.zeros((4, 16, 16, 1), np.uint8))
    np.savez(folder / "rgb.npz", np.zeros((4, 8, 8, 3), np.uint8))
    np.savez(folder / "one.npz", np.zeros((1, 8, 8, 1), np.uint8))
    (folder / "cut.npz").write_bytes((folder / "rgb.npz").read_bytes()[:200])
    (folder / "pointer.npz").write_text("version https://git-lfs.github.com/spec/v1\n")
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "a.png").write_bytes(b"no picture")
    (folder / "sizes").mkdir()
    Image.new("L", (9, 8)).save(folder / "sizes" / "a.png")
    return str(folder / kind)


@pytest.mark.parametrize(
    "kind, words",
    [
        ("floats.npz", "has dtype float32; images must be uint8"),
        ("nan.npz", "has dtype float32; images must be uint8"),
        ("large.npz", r"have shape \(16, 16, 1\), the run's images \(8, 8, 1\)"),
        ("rgb.npz", r"have shape \(8, 8, 3\), the run's images \(8, 8, 1\)"),
        ("one.npz", "holds 1 samples; metrics need 4 or more"),
        ("cut.npz", "eval.quality.path .*cut.npz is not a file of NumPy arrays"),
        ("pointer.npz", "is not a file of NumPy arrays"),
        ("none.npz", "eval.quality.path .*none.npz does not exist"),
        ("empty", "eval.quality.path .*empty holds no picture among its 0 files"),
        ("nowhere", "eval.quality.path .*nowhere is not a folder"),
        ("broken", "a.png cannot be read"),
        ("sizes", r"a.png has shape \(8, 9, 1\)"),
    ],
)
def test_what_cannot_be_scored_is_said(tiny, trained, tmp_path, kind, words):
    run = run_of(tiny, trained, samples=4, path=bad(tmp_path, kind), space="pixels")
    with pytest.raises(ValueError, match=words):
        quality.quality(run)


def test_without_inception_s_weights_it_says_what_to_get(tiny, trained):
    run = run_of(tiny, trained, samples=4, path="", space="inception")
    with pytest.raises(
        ValueError,
        match="eval.quality.inception is not set; get TensorFlow's inception-2015-12-05.tgz",
    ):
        quality.quality(run)


def test_what_too_few_images_do_not_allow_is_left_out_and_said_before_samples_are_drawn(
    tiny, trained, monkeypatch, capsys
):
    tiny.data.held_out, tiny.sample.seed = "test[:2]", 9
    run, said = run_of(tiny, trained, samples=8, path="", space="classifier"), []

    def draw(*_):
        said.append(capsys.readouterr().out)
        return real(tiny)[:8]

    monkeypatch.setattr(sampling, "write_samples", draw)
    quality.quality(run)
    (before,) = said
    assert "samples has 8 images; left out: is_classifier (needs 10)\n" in before
    few = "precision_classifier (needs 4), recall_classifier (needs 4), is_classifier (needs 10)"
    assert f"test[:2] has 2 images; left out: {few}\n" in before and "train has" not in before
    compared = {f"{name}_classifier_8" for name in ("frechet", "kid", "precision", "recall")}
    scores = record(trained)["scores"]
    found = {name for name in scores if not name.endswith("_std")}
    assert {name for name in found if "floor" not in name} <= set(quality.possible_names(run))
    assert not any("precision_classifier_8_test" in name for name in quality.possible_names(run))
    assert found == {
        *(f"{name}_train" for name in compared),
        *("frechet_classifier_8_test-to2", "kid_classifier_8_test-to2", "is_classifier_1437_train"),
        "floor_frechet_classifier_test-to2_2_train",
    }


def test_a_split_of_one_image_is_no_reference(tiny, trained, tmp_path, capsys):
    np.save(tmp_path / "some.npy", real(tiny)[:5])
    tiny.data.held_out = "test[:1]"
    quality.quality(run_of(tiny, trained, samples=9, path=f"{tmp_path}/some.npy", space="pixels"))
    assert "test[:1] has fewer than 2 images; samples are not compared" in capsys.readouterr().out
    assert set(record(trained)["references"]) == {"train"}
    tiny.data.split = "train[:1]"
    with pytest.raises(ValueError, match="too few images to measure samples against"):
        quality.check(build.run(tiny, epath.Path(tmp_path)))


def test_a_classifier_needs_labels_and_says_so_first(tiny, tmp_path):
    np.save(tmp_path / "some.npy", real(tiny)[:40])
    section = load("image_folder").data
    section.update(path=f"{tmp_path}/some.npy", image_size=8, channels=1, data_dir=str(tmp_path))
    tiny.data = section
    tiny.eval.quality.update(samples=8, space="classifier")
    with pytest.raises(ValueError, match="'image_folder' has no labels of two or more classes"):
        quality.check(build.run(tiny, epath.Path(tmp_path / "run")))


def test_the_classifier_knows_held_out_digits(tiny):
    source = sources.open_data_set("digits", tiny.data.data_dir, "train", 8)
    space = small_classifier.classifier(real(tiny), source.labels(np.arange(1437)))
    test = sources.open_data_set("digits", tiny.data.data_dir, "test", 8)
    found = space.features(real(tiny, "test"))
    right = found.logits.argmax(axis=1) == test.labels(np.arange(360))
    assert right.mean() > 0.94 and found.vectors.shape == (360, 32)
    again = small_classifier.classifier(real(tiny), source.labels(np.arange(1437)))
    assert again.settings == space.settings
    with pytest.raises(ValueError, match="two or more classes"):
        small_classifier.classifier(real(tiny)[:5], np.zeros(5, np.int64))
