"""The numbers of a run's folder, read from its files alone."""

import json

import pytest
from etils import epath

from ddpm_jax.evaluation import results


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "eval").mkdir()
    return epath.Path(tmp_path)


def write(folder, name, **record):
    (folder / "eval" / name).write_text(json.dumps(record))


def test_a_curve_has_each_step_once_in_order_with_the_row_written_last(folder):
    rows = [
        '{"step": 2, "loss": 3.0}\n',
        '{"step": 4, "loss": 2.0, "grad_norm": 1.0}\n',
        '{"step": 4, "loss": 1.5, "grad_norm": 0.5}\n',
        '{"step": 6, "lo',
    ]
    (folder / "metrics.jsonl").write_text("".join(rows))
    curves = results.training_curves(folder)
    assert curves == {
        "loss": results.Curve([2, 4], [3.0, 1.5], [None, None]),
        "grad_norm": results.Curve([4], [0.5], [None]),
    }


def test_a_folder_without_files_has_no_numbers(folder):
    assert results.training_curves(folder) == {}
    assert results.measurements(folder / "nowhere") == []


def test_bounds_and_scores_are_read_with_their_errors_and_facts(folder):
    write(
        folder,
        "4-likelihood-test.json",
        bits_per_dim=2.5,
        standard_error=0.1,
        images=9,
        split="test",
    )
    scores = {"kid_10": 0.3, "kid_10_std": 0.2}
    write(folder, "2-quality.json", scores=scores, samples=10, sampler="a", earlier=[])
    write(
        folder,
        "9-accuracy-test.json",
        accuracy=[0.5, 0.1],
        standard_error=[0.01, 0.2],
        split="test",
    )
    (folder / "eval" / "8-quality.json").write_text("{damaged")
    write(folder, "history.json", rows={})
    assert results.measurements(folder) == [
        results.Measurement(2, "kid_10", 0.3, 0.2, {"sampler": "a", "samples": 10}),
        results.Measurement(4, "bits_per_dim_test", 2.5, 0.1, {"images": 9, "split": "test"}),
        results.Measurement(9, "accuracy_test", 0.5, 0.01, {"split": "test"}),
    ]


def test_the_numbers_of_raw_weights_are_read_with_their_prefix_and_not_without(folder):
    write(folder, "4-likelihood-test.json", bits_per_dim=2.5)
    write(folder, "4-raw-likelihood-test.json", bits_per_dim=3.5)
    assert [each.value for each in results.measurements(folder)] == [2.5]
    assert [each.value for each in results.measurements(folder, "raw-")] == [3.5]


def test_a_curve_of_scores_keeps_to_one_way_of_measuring(folder):
    """That of its last step; the number of another sampler at an earlier step is no point of it."""
    ours, theirs = {"sampler": "ours"}, {"sampler": "theirs"}
    write(folder, "1-quality.json", scores={"fid_10": 5.0}, **theirs)
    earlier = [{"scores": {"fid_10": 9.0}, **theirs}]
    write(folder, "2-quality.json", scores={"fid_10": 4.0}, **ours, earlier=earlier)
    write(folder, "3-quality.json", scores={"fid_10": 3.0}, **ours)
    curves = results.measured_curves(results.measurements(folder))
    assert curves == {"fid_10": results.Curve([2, 3], [4.0, 3.0], [None, None])}


@pytest.mark.parametrize(
    "name, words",
    [
        ("bits_per_dim_train-95to", "bound in bits/dim, train-95to"),
        ("fid_50k_train", "FID, 50k train"),
        ("floor_frechet_classifier_360_test", "floor: Fréchet distance, classifier 360 test"),
        ("frechetish_10", "frechetish 10"),
    ],
)
def test_a_name_in_files_has_words(name, words):
    assert results.title(name) == words
