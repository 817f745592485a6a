"""A run's page: its numbers are those of the run's files, its warnings hold, and it loads nothing."""

import html
import json
import os
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest

from ddpm_jax.cli import command_line, evaluation
from ddpm_jax.evaluation import follow, results
from ddpm_jax.report import cautions, compose, page, pictures
from ddpm_jax.runtime import images

STEP = 4  # of the loud run's checkpoint


def write_json(run, name, **record):
    path = run.directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))


def write_bound(run, value, step=STEP, split="test", prefix="", error=0.01):
    record = {"bits_per_dim": value, "standard_error": error, "images": 8, "split": split}
    write_json(run, f"eval/{step}-{prefix}likelihood-{split}.json", **record)


def write_grids(run, *steps):
    """Grids of one gray each, by which they are told apart."""
    for step in steps:
        gray = np.full((4, 8, 8, 1), step, np.uint8)
        images.write_png(run.directory / "samples" / f"{step}-grid.png", images.grid(gray))


def text_of(run):
    compose.write(run)
    return (run.directory / f"{run.prefix}report.html").read_text()


class Elements(HTMLParser):
    """Keeps the elements that are open, and fails where one is closed that is not the innermost."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_refers_to_nothing_outside_itself(loud_run):
    run = loud_run()
    write_grids(run, 2, 4)
    write_bound(run, 2.5)
    elements = Elements(text_of(run))
    assert elements.open == []
    for tag, attributes in elements.seen:
        assert tag not in ("link", "iframe", "object", "embed")
        assert all(name not in attributes for name in ("href", "srcset", "action"))
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert tag != "img" or attributes["alt"]
    policies = [a["content"] for tag, a in elements.seen if "http-equiv" in a]
    assert policies == [page.POLICY] and policies[0].startswith("default-src 'none'")


def test_a_name_that_looks_like_html_is_text(loud_run):
    run = loud_run()
    run = run._replace(data=run.data._replace(name="<script>alert(1)</script>"))
    assert "<script>alert" not in text_of(run)


def test_it_shows_the_numbers_of_the_checkpoint_and_of_these_weights(loud_run):
    run = loud_run()
    write_bound(run, 2.345, step=2)
    write_bound(run, 2.222)
    write_bound(run, 7.777, prefix="raw-")
    write_bound(run, 9.999, step=6)  # of a checkpoint that is gone: the one to read is at step 4
    text = text_of(run)
    table = text[text.index("<h2>Numbers") :]
    assert "2.222 ± 0.010" in table and "2.345" not in table
    assert "2.345" in text and "7.777" not in text and "9.999" not in text
    assert "7.777" in text_of(run._replace(weights="raw"))
    assert "2.345" in text_of(run._replace(step=2)) and "2.222" not in text_of(run._replace(step=2))


def test_what_was_not_measured_is_said(loud_run):
    text = text_of(loud_run())
    assert "not measured" in text and "0.0" not in re.findall(r"<dd>([^<]*)", text)


def test_a_command_beside_a_number_measures_it_again(loud_run):
    """It is parsed: its fields are those with which the file was written."""
    run = loud_run()
    scores = {"fid_30_train": 4.0}
    how = {"samples": 30, "sampler": run.sample.chain.name, "seed": 11, "space": "pixels"}
    write_json(run, "eval/4-quality.json", scores=scores, **how)
    write_bound(run, 2.5)
    commands = [
        html.unescape(line)
        for block in re.findall("<pre>(.*?)</pre>", text_of(run), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("ddpm evaluate") and "--config" in line
    ]
    (command,) = commands
    parsed = command_line.parse(["ddpm", *shlex.split(command)[1:]])
    assert parsed.mode.name == "evaluate" and parsed.directory == run.directory
    assert parsed.config.eval.quality.samples == 30 and parsed.config.sample.seed == 11
    assert parsed.config.eval.quality.space == "pixels"
    assert parsed.config.eval.seed == run.eval.seed


def test_the_slider_has_the_grids_in_order_and_shows_the_last(loud_run):
    run = loud_run()
    write_grids(run, 2, 100, 10)
    frames = [a for tag, a in Elements(text_of(run)).seen if tag == "img" and "data-place" in a]
    assert [each["data-place"] for each in frames] == ["step 2", "step 10", "step 100"]
    assert ["shown" in each["class"] for each in frames] == [False, False, True]
    shown = [
        pictures.small(run.directory / "samples" / f"{step}-grid.png") for step in (2, 10, 100)
    ]
    assert [each["src"] for each in frames] == [each.uri for each in shown]


def test_a_damaged_picture_is_left_out(loud_run):
    run = loud_run()
    write_grids(run, 2, 4)
    (run.directory / "samples" / "2-grid.png").write_bytes(b"\x89PNG")
    assert "step 4" in text_of(run) and 'data-place="step 2"' not in text_of(run)


@pytest.mark.parametrize("count", [1, 2, 5, 24, 1000])
def test_of_many_grids_the_first_the_last_and_some_between_are_kept(count):
    chosen = pictures.spread(list(range(count)), pictures.FRAMES)
    assert chosen[0] == 0 and chosen[-1] == count - 1 and len(chosen) == min(count, 24)
    assert chosen == sorted(set(chosen)) and max(np.diff(chosen), default=1) <= count / 20 + 1


def said(run):
    return cautions.cautions(
        run, STEP, results.measurements(run.directory), results.training_curves(run.directory)
    )


def test_a_finished_run_with_an_old_average_has_no_warning(loud_run):
    assert (
        said(
            loud_run(
                **{"train.steps": STEP, "optimizer.ema_decay": 0.1, "diffusion.schedule.T": 100}
            )
        )
        == []
    )


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"train.steps": 6}, "stopped at step 4 of 6"),
        ({"optimizer.ema_decay": 0.9}, "still 65.6 % what training began with"),
        ({"diffusion.schedule.T": 8}, "X_T is not noise"),
    ],
)
def test_what_the_config_says_of_a_run_is_warned_of(loud_run, fields, words):
    quiet = {"train.steps": STEP, "optimizer.ema_decay": 0.1, "diffusion.schedule.T": 100}
    (warning,) = said(loud_run(**quiet | fields))
    assert words in warning


@pytest.fixture
def quiet_run(loud_run):
    return loud_run(
        **{"train.steps": STEP, "optimizer.ema_decay": 0.1, "diffusion.schedule.T": 100}
    )


def test_skipped_steps_are_counted(quiet_run):
    rows = [{"step": 2, "loss": 1.0, "skipped": 2.0}, {"step": 4, "loss": 1.0, "skipped": 1.0}]
    (quiet_run.directory / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )
    (warning,) = said(quiet_run)
    assert warning.startswith("3 steps were skipped")


def test_numbers_of_an_earlier_step_are_warned_of(quiet_run):
    write_bound(quiet_run, 2.5, step=2)
    (warning,) = said(quiet_run)
    assert "of step 2, not of step 4" in warning


def test_few_samples_are_warned_of_and_many_are_not(quiet_run):
    write_json(quiet_run, "eval/4-quality.json", scores={"fid_10k_train": 4.0}, samples=10_000)
    assert said(quiet_run) == []
    write_json(quiet_run, "eval/4-quality.json", scores={"fid_500_train": 4.0}, samples=500)
    (warning,) = said(quiet_run)
    assert "500 samples" in warning


@pytest.mark.parametrize("train, warned", [(2.40, True), (2.46, False), (2.6, False)])
def test_a_bound_that_is_lower_on_training_images_is_warned_of(quiet_run, train, warned):
    write_bound(quiet_run, 2.5)
    write_bound(quiet_run, train, split="train")
    assert [("by heart" in each) for each in said(quiet_run)] == [True] * warned


@pytest.mark.parametrize(
    "share, held_out, warned", [(0.3, 0.0, True), (0.005, 0.0, False), (0.3, 0.2, False)]
)
def test_near_copies_are_warned_of_unless_held_out_images_are_as_near(
    quiet_run, share, held_out, warned
):
    copies = {
        "share": share,
        "images": 200,
        "threshold": 1 / 3,
        "held_out_share": held_out,
        "held_out_images": 9,
    }
    write_json(quiet_run, "figures/4-nearest.json", near_copies=copies)
    assert [("near copies" in each) for each in said(quiet_run)] == [True] * warned


def test_the_page_of_a_classifier_calls_it_one(loud_run):
    run = loud_run("classifier")
    write_json(
        run,
        "eval/4-accuracy-test.json",
        accuracy=[0.75, 0.1],
        standard_error=[0.02, 0.01],
        images=8,
    )
    text = text_of(run)
    assert "A classifier of noisy 8x8 gray images" in text and "0.75" in text


def test_two_commands_that_write_the_report_at_once_leave_a_whole_one(loud_run, monkeypatch):
    """Training and --follow end together: another writer comes in between this one's writing and its renaming."""
    run = loud_run()
    plain, calls = os.fsync, []

    def fsync(file):
        plain(file)
        if not calls:
            calls.append(file)
            monkeypatch.setattr(os, "getpid", lambda: -1)  # the other process
            compose.write(run)

    monkeypatch.setattr(os, "fsync", fsync)
    text = text_of(run)
    assert len(calls) == 1 and text.rstrip().endswith("</html>")
    assert not list(run.directory.glob(".report*"))


def test_the_report_is_written_after_each_step_that_follow_evaluates(loud_run, monkeypatch):
    """With the number that the step has just got."""
    run, evaluated = loud_run(**{"train.steps": STEP}), {}

    def evaluate_step(run, step):
        write_bound(run, 2.718, step)
        evaluated[step] = {}

    monkeypatch.setattr(follow, "evaluate_step", evaluate_step)
    monkeypatch.setattr(follow, "history", lambda run: evaluated)
    evaluation.evaluate_and_report(run, follow=True)
    assert "2.718 ± 0.010" in (run.directory / "report.html").read_text()
