"""The figure of --follow: words and units on its axes, errors at its points, and a ring around the best step."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from etils import epath
from PIL import Image

from ddpm_jax.evaluation import history_figure
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import figure_files, plotting

BITS = {600: 2.6, 1200: 2.46, 1800: 2.42}
FID = {600: 30.0, 1200: 9.0, 1800: 12.0}


@pytest.fixture
def run(tmp_path):
    """Returns a run's folder with a bound and scores at three steps, one bound without a standard error."""
    (tmp_path / "eval").mkdir()
    for step, bits in BITS.items():
        error = None if step == 600 else step / 1e5
        bound = {"bits_per_dim": bits, "standard_error": error, "split": "test", "images": 360}
        (tmp_path / "eval" / f"{step}-likelihood-test.json").write_text(json.dumps(bound))
        scores = {"fid_50k_train": FID[step], "is_50k": 9.0, "is_50k_std": 0.1}
        quality = {"scores": scores, "samples": 50_000}
        (tmp_path / "eval" / f"{step}-quality.json").write_text(json.dumps(quality))
    data = SimpleNamespace(name="cifar10", split="train", held_out="test")
    empty = Run(**dict.fromkeys(Run._fields))
    sample = SimpleNamespace(chain=SimpleNamespace(name="ancestral-1000"))
    return empty._replace(sample=sample, directory=epath.Path(tmp_path), weights="ema", data=data)


ROWS = {
    step: {"bits_per_dim_test": BITS[step], "fid_50k_train": FID[step], "is_50k": 9.0}
    for step in BITS
}


def pages(run, monkeypatch, *args):
    """The axes of the figure that is drawn."""
    made = []
    monkeypatch.setattr(
        figure_files,
        "save",
        lambda path, page, title, plain=figure_files.save: (
            made.append(page),
            plain(path, page, title),
        ),
    )
    history_figure.draw(run, *args)
    Image.open(run.directory / "figures" / "history.png").verify()
    return made[0].axes


def test_axes_say_what_is_measured_and_the_best_step_is_marked(run, monkeypatch):
    first, second = pages(run, monkeypatch, ROWS, "fid_50k_train", 1200)
    assert first.get_ylabel() == "FID, 50,000 samples"
    assert second.get_ylabel() == "bound in bits/dim (held-out)"
    assert first.get_xlabel() == second.get_xlabel() == "training step"
    assert first.get_title(loc="right") == "best: 9 at step 1,200" and not second.get_title("right")
    own, published, ring = first.lines
    assert own.get_marker() not in ("", "None") and own.get_linestyle() == "-"
    np.testing.assert_array_equal(own.get_xydata(), list(FID.items()))
    np.testing.assert_array_equal(published.get_xdata(), list(history_figure.FAITHFUL))
    np.testing.assert_array_equal(ring.get_xydata(), [[1200, 9.0]])
    for axes in (first, second):
        assert "_" not in axes.get_ylabel()


def test_bars_are_as_long_as_the_errors_that_were_measured(run, monkeypatch):
    _, bound = pages(run, monkeypatch, ROWS, "is_50k", 600)
    bars = [bar.get_segments()[0] for bar in bound.collections]
    expected = [[[s, BITS[s] - s / 1e5], [s, BITS[s] + s / 1e5]] for s in (1200, 1800)]
    np.testing.assert_allclose(bars, expected)


def test_the_error_of_another_measurement_of_the_step_is_no_bar(run, monkeypatch):
    """As after a later evaluation of more images, which has replaced the file."""
    rows = {step: row | {"bits_per_dim_test": 3.0} for step, row in ROWS.items()}
    _, bound = pages(run, monkeypatch, rows, "fid_50k_train", 1200)
    assert not bound.collections


def test_a_long_label_of_an_axis_is_broken_near_its_middle():
    assert plotting.wrap("FID, 50,000 samples") == "FID, 50,000 samples"
    label = "Fréchet distance of the classifier, 360 samples"
    first, second = plotting.wrap(label).split("\n")
    assert f"{first} {second}" == label and abs(len(first) - len(second)) < 10
    assert plotting.wrap("short\n" + label) == "short\n" + label
