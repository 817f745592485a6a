"""Titles of figures: above the PNG, for screens, and nowhere in the PDF, for papers."""

import io

import numpy as np
import pytest
from etils import epath
from PIL import Image

from ddpm_jax.figures import program
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.runtime import figure_files, plotting, text
from ddpm_jax.runtime.plotting import Figure

CELLS = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 1), dtype=np.uint8)


def page():
    return plotting.sheet(CELLS, [], [])


def saved(folder, title):
    figure_files.save(epath.Path(folder) / "sheet", page(), title)
    png, pdf = ((folder / f"sheet.{suffix}").read_bytes() for suffix in ("png", "pdf"))
    return png, pdf


def test_a_title_is_above_the_png_and_leaves_its_images_and_the_pdf_as_they_are(tmp_path):
    plain, plain_pdf = saved(tmp_path, "")
    titled, pdf = saved(tmp_path, "samples")
    assert pdf == plain_pdf and saved(tmp_path, "samples") == (titled, pdf)
    pictures = [np.asarray(Image.open(io.BytesIO(each))) for each in (plain, titled)]
    height = len(pictures[0])
    np.testing.assert_array_equal(pictures[1][-height:], pictures[0])
    strip = pictures[1][:-height]
    assert (strip < 100).any() and (strip[[0, -1]] > 250).all() and (strip[:, [0, -1]] > 250).all()


@pytest.mark.parametrize(
    "title, lines",
    [
        (
            "the nearest training images · run $5_a$ · step 2,400 · ddim",
            ["the nearest", "training images", r"run \$5_a\$", "step 2,400 · ddim"],
        ),
        ("one", ["one"]),
        ("", []),
    ],
)
def test_a_title_too_long_for_the_picture_takes_more_lines(tmp_path, title, lines):
    """Its parts stay whole where they are narrower."""
    assert figure_files.break_lines(title, 0.9) == lines
    assert all(text.width(line) <= 0.9 for line in lines)
    png, _ = saved(tmp_path, title)
    plain, _ = saved(tmp_path, "")
    heights = [Image.open(io.BytesIO(each)).height for each in (png, plain)]
    wide = len(figure_files.break_lines(title, 1.65 - 2 * figure_files.MARGIN))
    assert heights[0] - heights[1] == wide * round(figure_files.LINE * page().dpi)


def test_the_title_says_what_run_step_weights_and_sampler(loud_run, monkeypatch, tmp_path):
    titles = []
    monkeypatch.setattr(figure_files, "save", lambda path, page, title: titles.append(title))
    entry = program.FIGURES["grid"]._replace(
        draw=lambda trained: Figure({"": page(), "-other": page()}, {}, note="all alike")
    )
    monkeypatch.setitem(program.FIGURES, "grid", entry)
    run = loud_run()
    program.draw(TrainedRun(run, 24_000, {}, None, epath.Path(tmp_path)), "grid")
    assert titles == ["samples; all alike · plain · step 24,000 · ancestral-8"] * 2
    raw = run._replace(weights="raw")
    program.draw(TrainedRun(raw, 4, {}, None, epath.Path(tmp_path)), "grid")
    assert titles[-1] == "samples; all alike · plain · step 4 · raw weights · ancestral-8"


def test_every_figure_has_a_title():
    assert all(entry.title for entry in program.FIGURES.values())
