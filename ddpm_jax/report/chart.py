"""Line charts as SVG inside HTML: they follow the page's colours, light or dark, and need no library to draw."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 400, 250  # units of the drawing, which are pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 38  # margins
POINTS = 300  # drawn of one line; more are averaged in equal windows
COLOURS = 8  # classes of page.css
STEEP = 4.0  # the ratio of the largest to the smallest value above which a chart is logarithmic


class Series(NamedTuple):
    """One line of a chart; with 'marked', its points are drawn with their errors.

    Lines of one label have one colour.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    errors: Sequence[float | None] = ()
    marked: bool = False


class Axis(NamedTuple):
    """Where values lie on a side of the drawing."""

    low: float
    high: float
    begin: float  # the place of 'low', in units of the drawing
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, at = (self.transform(each) for each in (self.low, self.high, value))
        return self.begin + (at - low) / (high - low) * (self.end - self.begin)

    def transform(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Returns round values on the axis: three to seven of 1, 2 or 5 times a power of ten."""
        if not self.log:
            rough = (self.high - self.low) / 5
            unit = 10.0 ** math.floor(math.log10(rough))
            step = unit * next(each for each in (1, 2, 5, 10) if each * unit >= rough)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            return [number * step for number in range(first, last + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = max(1, len(decades) // 5)
        factors = (1, 2, 5) if self.high / self.low < 300 else (1,)
        values = [factor * 10.0**decade for decade in decades[::every] for factor in factors]
        return [value for value in values if self.low <= value <= self.high]


def thin(series: Series) -> Series:
    """Returns a long line as means over equal windows; values that are not finite are left out."""
    kept = [i for i, value in enumerate(series.y) if math.isfinite(value)]
    x, y = (np.asarray(each, float)[kept] for each in (series.x, series.y))
    errors = [series.errors[i] for i in kept] if series.errors else [None] * len(kept)
    if len(x) <= POINTS:
        return series._replace(x=x.tolist(), y=y.tolist(), errors=errors)
    x, y = ([part.mean() for part in np.array_split(each, POINTS)] for each in (x, y))
    return series._replace(x=x, y=y, errors=[None] * POINTS)


def line_chart(title: str, lines: Sequence[Series], x_label: str = "training step") -> str:
    """Returns a figure with a chart and, of several lines, their names; "" if there is nothing to draw."""
    lines = [line for line in map(thin, lines) if line.x]
    if not lines:
        return ""
    ends = [
        (y - (e or 0), y + (e or 0))
        for line in lines
        for y, e in zip(line.y, line.errors, strict=True)
    ]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    log = low > 0 and high / low > STEEP
    if not log:
        space = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        low, high = (0.0 if 0 <= low < space else low - space), high + space
    x_low, x_high = min(min(line.x) for line in lines), max(max(line.x) for line in lines)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    x_low = 0.0 if 0 < x_low < 0.2 * x_high else x_low
    x = Axis(x_low, x_high, LEFT, WIDTH - RIGHT)
    y = Axis(low, high, HEIGHT - BOTTOM, TOP, log)
    labels = list(dict.fromkeys(line.label for line in lines))
    drawn = [draw(line, labels.index(line.label), x, y) for line in lines]
    parts = [*grid_lines(x, y, x_label), *drawn]
    words = describe(title, lines)
    legend = [
        f'<li><span class="key c{i % COLOURS}"></span>{escape(label)}</li>'
        for i, label in enumerate(labels)
    ]
    names = f"<ul class='legend'>{''.join(legend)}</ul>" if len(labels) > 1 else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">'
        f"{''.join(parts)}</svg>{names}</figure>"
    )


def grid_lines(x: Axis, y: Axis, x_label: str) -> list[str]:
    """Returns the ticks with their numbers, and the name of the horizontal axis."""
    parts = []
    for value in y.ticks():
        at = y.place(value)
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(value)}</text>'
        )
    for value in x.ticks():
        at = x.place(value)
        parts.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(value)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return parts


def draw(line: Series, colour: int, x: Axis, y: Axis) -> str:
    """Returns a line and, of a marked one, its points with error bars and their values on hover."""
    places = [(x.place(a), y.place(b)) for a, b in zip(line.x, line.y, strict=True)]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    parts = [f'<polyline points="{points}"/>']
    if line.marked or len(places) == 1:
        for (a, b), step, value, error in zip(places, line.x, line.y, line.errors, strict=True):
            if error:
                ends = y.place(value - error), y.place(value + error)
                parts.append(
                    f'<line x1="{a:.1f}" x2="{a:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>'
                )
            words = f"{line.label + ', ' if line.label else ''}step {step:,.0f}: {with_error(value, error)}"
            parts.append(
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3"><title>{escape(words)}</title></circle>'
            )
    return f'<g class="line c{colour % COLOURS}">{"".join(parts)}</g>'


def describe(title: str, lines: Sequence[Series]) -> str:
    """Returns what a chart shows, for those who do not see it: each line's first, last and extreme values."""
    told = [
        f"{line.label or title}: {number(line.y[0])} at {line.x[0]:,.0f}, {number(line.y[-1])} at"
        f" {line.x[-1]:,.0f}, between {number(min(line.y))} and {number(max(line.y))}"
        for line in lines
    ]
    return f"Chart of {title}. " + ". ".join(told) + "."


def number(value: float) -> str:
    """Returns a short form: 20k, 0.05, 1.2e-05."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.4g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.4g}k"
    return f"{value:.4g}"


def with_error(value: float, error: float | None) -> str:
    """Returns a value with its error, to the two digits that the error is known to: 2.414 ± 0.011."""
    if not error or not math.isfinite(error):
        return f"{value:.4g}"
    digits = max(0, 1 - math.floor(math.log10(abs(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
