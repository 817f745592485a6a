"""The figure of training: every logged step once, means where there are many, and numbers with their errors."""

import json

import numpy as np
import pytest
from etils import epath
from PIL import Image

from ddpm_jax.evaluation.results import Curve
from ddpm_jax.figures import program, training_curves
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.runtime import plotting


def log(run, rows):
    lines = [json.dumps({"step": step, "loss": loss, "grad_norm": 1.0}) for step, loss in rows]
    (run.directory / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def measure(run, step, split, bits, error):
    record = {"bits_per_dim": bits, "standard_error": error, "split": split, "images": 8}
    path = run.directory / "eval" / f"{step}-likelihood-{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))


def trained(run):
    return TrainedRun(run, 4, {}, None, epath.Path(run.directory) / "kept")


def drawn(run):
    """The figure's axes by the labels of their vertical axes, and its numbers."""
    figure = training_curves.training(trained(run))
    return {axes.get_ylabel(): axes for axes in figure.pages[""].axes}, figure.facts


def test_a_resumed_run_has_every_step_once_and_no_gap(loud_run):
    """A killed one has logged steps that were taken again after it was resumed; the later rows are its own."""
    run = loud_run()
    rows = [(step, 1.0 / step) for step in range(10, 610, 10)]
    log(run, rows[:40] + [(step, 7.0) for step in (410, 420)] + rows[35:])
    axes, facts = drawn(run)
    raw, smoothed = axes["training loss"].lines
    np.testing.assert_allclose(raw.get_xydata(), rows)
    assert facts["logged"]["loss"] == {
        "steps": [s for s, _ in rows],
        "values": [v for _, v in rows],
    }
    np.testing.assert_array_equal(smoothed.get_xdata(), raw.get_xdata())
    assert raw.get_color() == smoothed.get_color() and raw.get_alpha() < 0.5
    assert "learning rate" not in axes


def test_long_logs_are_thinned_to_means_and_their_pdf_stays_small():
    steps = np.arange(1, 100_001)
    noisy = Curve(
        steps.tolist(), np.random.default_rng(0).random(100_000).tolist(), [None] * 100_000
    )
    thinned = training_curves.thin(noisy)
    assert len(thinned.steps) == training_curves.POINTS
    np.testing.assert_allclose(thinned.values, np.reshape(noisy.values, (400, 250)).mean(axis=1))
    np.testing.assert_allclose(thinned.steps, steps.reshape(400, 250).mean(axis=1), atol=0.5)
    page = plotting.plots([training_curves.logged_plot("loss", thinned)])
    assert len(plotting.render(page, "pdf")) < 40_000
    few = Curve([1, 5, 7], [3.0, 2.0, 2.5], [None] * 3)
    assert training_curves.thin(few) == few


def test_smoothing_moves_no_straight_line_and_lessens_noise():
    line = np.linspace(3.0, -2.0, 173)
    np.testing.assert_allclose(training_curves.smooth(line), line)
    noise = np.random.default_rng(0).normal(size=400)
    assert training_curves.smooth(noise)[20:-20].std() < 0.4
    exponential = Curve(list(range(300)), np.exp(-np.arange(300) / 30).tolist(), [None] * 300)
    raw, smoothed = training_curves.logged_plot("loss", exponential).lines
    np.testing.assert_allclose(smoothed.y, raw.y)  # straight on its logarithmic axis


def test_bounds_of_both_splits_share_a_plot_and_have_their_errors(loud_run):
    run = loud_run()
    for step, bits in ((2, 3.0), (4, 2.5)):
        measure(run, step, "test", bits, 0.1)
        measure(run, step, "train", bits - 0.25, None)
    scores = {
        "is_8": 2.0,
        "is_8_test": 3.0,
        "fid_8_train": 9.0,
        "fid_8_test": 8.0,
        "floor_fid": 1.0,
    }
    (run.directory / "eval" / "4-quality.json").write_text(
        json.dumps({"scores": scores, "samples": 8})
    )
    axes, facts = drawn(run)
    assert axes.keys() == {"bound in bits/dim", "Inception Score, 8 samples", "FID, 8 samples"}
    bound = axes["bound in bits/dim"]
    lines = {line.get_label(): line.get_ydata().tolist() for line in bound.lines}
    assert lines["held-out"] == [3.0, 2.5] and lines["training"] == [2.75, 2.25]
    bars = [bar.get_segments()[0] for bar in bound.collections]
    np.testing.assert_allclose(
        bars, [[[s, b - 0.1], [s, b + 0.1]] for s, b in ((2, 3.0), (4, 2.5))]
    )
    words = {
        label: sorted(each.get_text() for each in shown.get_legend().get_texts())
        for label, shown in axes.items()
    }
    assert words == {
        "bound in bits/dim": ["held-out", "training"],
        "Inception Score, 8 samples": ["held-out", "samples"],
        "FID, 8 samples": ["against held-out", "against training"],
    }
    limits = [shown.get_xlim() for shown in axes.values()]
    assert len(set(limits)) == 1 and limits[0][0] < 0 < 4 < limits[0][1]
    assert facts["measured"]["bits_per_dim_test"] == {
        "steps": [2, 4],
        "values": [3.0, 2.5],
        "errors": [0.1, 0.1],
    }


def test_it_is_refused_without_a_log_and_an_evaluation_and_written_with_one(loud_run):
    run = loud_run()
    with pytest.raises(ValueError, match="neither metrics.jsonl.*ddpm evaluate"):
        program.check(run, ["training"])
    measure(run, 4, "test", 3.0, 0.1)
    program.check(run, ["training"])
    program.draw(trained(run), "training")
    for suffix in ("png", "pdf", "json"):
        assert (run.directory / "figures" / f"4-training.{suffix}").exists()
    Image.open(run.directory / "figures" / "4-training.png").verify()
