"""Line charts: what is drawn lies where its values are."""

import re

import numpy as np
import pytest

from ddpm_jax.report import chart
from ddpm_jax.report.chart import Axis, Series


def points(svg):
    """The points of each line, in units of the drawing."""
    return [
        [tuple(map(float, pair.split(","))) for pair in each.split()]
        for each in re.findall(r'<polyline points="([^"]*)"', svg)
    ]


def test_higher_values_are_drawn_higher_and_later_steps_to_the_right():
    (line,) = points(chart.line_chart("loss", [Series("", [0, 10, 20], [3.0, 2.0, 2.5])]))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert x0 < x1 < x2 and x1 - x0 == pytest.approx(x2 - x1, abs=0.1)
    assert y0 < y2 < y1 and (y1 - y0) == pytest.approx(2 * (y1 - y2), abs=0.3)


def test_equal_ratios_are_equal_heights_of_a_steep_line():
    (line,) = points(chart.line_chart("loss", [Series("", [1, 2, 3], [100.0, 10.0, 1.0])]))
    heights = [y for _, y in line]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)


def test_two_lines_share_their_axes_and_are_named():
    svg = chart.line_chart(
        "loss", [Series("A", [1, 2], [1.0, 2.0]), Series("<B>", [1, 3], [2.0, 3.0])]
    )
    (a, b) = points(svg)
    assert a[1][1] == b[0][1] and a[0][0] == b[0][0] and a[1][0] < b[1][0]
    assert "A</li>" in svg and "&lt;B&gt;</li>" in svg and "<B>" not in svg


def test_an_error_bar_reaches_as_far_as_its_value_plus_and_minus_its_error():
    svg = chart.line_chart("bound", [Series("", [1, 2], [2.0, 3.0], [1.0, None], marked=True)])
    ((_, two), (_, three)) = points(svg)[0]
    (bar,) = re.findall(r'<line x1="[^"]*" x2="[^"]*" y1="([^"]*)" y2="([^"]*)"/>', svg)
    one, top = map(float, bar)
    assert top == pytest.approx(three, abs=0.11) and one - two == pytest.approx(
        two - three, abs=0.21
    )
    assert "step 1: 2.0 ± 1.0" in svg and "step 2: 3<" in svg


def test_a_long_line_is_thinned_to_means_over_windows_and_keeps_its_mean():
    y = np.random.default_rng(0).normal(size=3000)
    thinned = chart.thin(Series("", list(range(3000)), y.tolist()))
    assert len(thinned.x) == chart.POINTS and np.mean(thinned.y) == pytest.approx(y.mean())
    assert thinned.x == sorted(thinned.x) and np.mean(thinned.x) == pytest.approx(1499.5)


def test_values_that_are_not_finite_are_left_out_and_a_chart_of_nothing_is_none():
    nan = float("nan")
    (line,) = points(chart.line_chart("loss", [Series("", [1, 2, 3], [1.0, nan, 2.0])]))
    assert len(line) == 2
    assert chart.line_chart("loss", [Series("", [1], [nan])]) == ""
    assert chart.line_chart("loss", []) == ""


@pytest.mark.parametrize(
    "low, high, log",
    [(0.0, 2400.0, False), (0.07, 1.3, True), (1.0, 1.0001, False), (1e-8, 1e3, True)],
)
def test_ticks_are_few_and_round_and_lie_on_the_axis(low, high, log):
    ticks = Axis(low, high, 0.0, 100.0, log).ticks()
    assert 2 <= len(ticks) <= 9 and all(low <= tick <= high * (1 + 1e-9) for tick in ticks)
    assert all(float(f"{tick:.6g}") == pytest.approx(tick) for tick in ticks)


def test_a_constant_line_has_a_chart():
    assert len(points(chart.line_chart("rate", [Series("", [5], [0.0])]))) == 1


@pytest.mark.parametrize(
    "value, error, text",
    [
        (2.41437, 0.01129, "2.414 ± 0.011"),
        (7.46, 0.38, "7.46 ± 0.38"),
        (1234.5, 21.0, "1234 ± 21"),
        (0.5174, None, "0.5174"),
        (3.0, float("nan"), "3"),
    ],
)
def test_an_error_decides_the_digits_of_its_value(value, error, text):
    assert chart.with_error(value, error) == text


def test_those_who_do_not_see_it_are_told_its_ends():
    svg = chart.line_chart("loss", [Series("", [100, 2400], [0.35, 0.08])])
    assert "Chart of loss. loss: 0.35 at 100, 0.08 at 2,400" in svg
