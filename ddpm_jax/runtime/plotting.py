"""Figures in one style: sheets of images and small plots, as PNG and PDF.

Only this file and text.py import matplotlib, and only when the first figure is drawn, as that takes seconds.
Images are enlarged by an integer factor, so that viewers do not blur them; text stays text.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from ddpm_jax.runtime import text
from ddpm_jax.runtime.text import STYLE, TEXT

Page = Any  # a matplotlib Figure
Cells = UInt8[np.ndarray, "rows columns h w c"]
Raster = UInt8[np.ndarray, "y x 3"]
Numbers = Sequence[float | int | None]
WIDTH = 5.5  # inches: the width of the paper's text
HEIGHT = 1.45  # inches: that of a plot
CELL = 0.55  # inches: the greatest width of an image
PAD = 0.04  # inches between text and the images beside it
MARGIN = 0.08  # inches left of rows' texts, which draw a little wider than 'text_width' says
SHARP = 96  # pixels: images are enlarged until their longer side has at least this many
COLOURS = ("#1f4e79", "#b5482a", "#4d7c3a", "#8a8a8a", "#d9b13b")  # distinct in gray, too


class Film(NamedTuple):
    """An animation: frames of one size, and the text above them."""

    frames: Sequence[Raster]
    captions: Sequence[str]  # one for each frame
    milliseconds: Sequence[int]  # that each frame stays
    headers: Sequence[
        tuple[float, str]
    ] = ()  # texts and the pixels of a frame above which they are
    exact: bool = (
        True  # False: WebP may lose details, for frames with more of them than a file holds
    )


class Figure(NamedTuple):
    """A figure: its pages and films by the suffixes of their file names, and its numbers, for JSON."""

    pages: Mapping[str, Page]
    facts: dict[str, Any]
    films: Mapping[str, Film] = {}
    note: str = ""  # what its title says besides what it shows


class Header(NamedTuple):
    """Text above the columns first..last of a sheet."""

    first: int
    last: int
    text: str


class Line(NamedTuple):
    x: Numbers
    y: Numbers  # None, which stands for infinity in JSON, is not drawn
    label: str = ""
    marker: str = ""  # if set, points are drawn instead of a line
    errors: Numbers = ()  # the half lengths of bars at the points; None where there is no bar
    dots: bool = False  # whether the points of a line are marked
    faint: bool = False  # behind the next line, and in its colour


class Mark(NamedTuple):
    """A point that a plot rings, and the text about it, which is above the plot."""

    x: float
    y: float
    text: str


class Plot(NamedTuple):
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log: bool = False  # both axes
    log_y: bool = False  # the vertical one alone
    mark: Mark | None = None
    x_range: tuple[float, float] | None = (
        None  # that plots in one figure share; None fits the lines
    )


def rgb(cells: Cells) -> UInt8[np.ndarray, "rows columns h w 3"]:
    """Returns RGB images unchanged, and the first channel of others as gray."""
    return cells if cells.shape[-1] == 3 else np.repeat(cells[..., :1], 3, axis=-1)


def tile(
    cells: Cells, breaks: Sequence[int], scale: int = 0
) -> tuple[Raster, list[float], list[float]]:
    """Returns the enlarged images on white, and the centres of the columns and of the rows, in pixels.

    There is a wider gap before each column in 'breaks'. A scale of 0 makes images sharp.
    """
    scale = scale or -(-SHARP // max(cells.shape[2:4]))
    enlarged = rgb(cells).repeat(scale, axis=2).repeat(scale, axis=3)
    rows, columns, height, width, _ = enlarged.shape
    gap = max(1, width // 24)
    extra = np.cumsum([4 * gap if column in breaks else 0 for column in range(columns)])
    lefts = np.arange(columns) * (width + gap) + extra
    tops = np.arange(rows) * (height + gap)
    raster = np.full((tops[-1] + height, lefts[-1] + width, 3), 255, np.uint8)
    for top, row in zip(tops, enlarged, strict=True):
        for left, image in zip(lefts, row, strict=True):
            raster[top : top + height, left : left + width] = image
    return raster, (lefts + width / 2).tolist(), (tops + height / 2).tolist()


def sheet(
    cells: Cells, rows: Sequence[str], headers: Sequence[Header], breaks: Sequence[int] = ()
) -> Page:
    """Draws rows of images with text beside each row and headers above the columns."""
    import matplotlib
    from matplotlib.figure import Figure

    raster, middles, levels = tile(cells, breaks)
    height, width = raster.shape[:2]
    with matplotlib.rc_context(STYLE):
        left = max(map(text.width, rows)) + PAD + MARGIN if rows else 0.0
        top = 0.15 if headers else 0.0
        inches = min(WIDTH - left, CELL * cells.shape[1])
        dpi = width / inches  # one pixel of the raster is one pixel of the PNG
        left, top = round(left * dpi), round(top * dpi)
        # The hundredth keeps a rounded-down product from losing a pixel.
        size = left + width + 0.01, top + height + 0.01
        figure = Figure(figsize=(size[0] / dpi, size[1] / dpi), dpi=dpi)
        axes = figure.add_axes((left / size[0], 0.0, width / size[0], height / size[1]))
        axes.set_axis_off()
        axes.imshow(raster, interpolation="none", aspect="auto", extent=(0, width, height, 0))
        pad = PAD * dpi
        for words, middle in zip(rows, levels, strict=bool(rows)):
            axes.text(-pad, middle, words, ha="right", va="center")
        for header in headers:
            middle = (middles[header.first] + middles[header.last]) / 2
            axes.text(middle, -pad, header.text, ha="center", va="baseline", fontsize=TEXT - 1)
    return figure


def plots(panels: Sequence[Plot], columns: int = 0) -> Page:
    """Draws small plots side by side, in rows of that many if there are more than 'columns', which is not 0."""
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(columns or len(panels), len(panels))
    rows = -(-len(panels) // columns)
    size = WIDTH / 3 * columns, HEIGHT * rows
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, dpi=300, layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, panel in zip(places, panels, strict=False):
            draw(axes, panel)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
    return figure


def wrap(label: str) -> str:
    """Returns the label of a vertical axis, broken at a space near its middle if it is longer than the axis."""
    if "\n" in label or text.width(label) <= HEIGHT - 0.2:
        return label
    spaces = [i for i, letter in enumerate(label) if letter == " "]
    middle = min(spaces, key=lambda i: abs(i - len(label) / 2), default=None)
    return label if middle is None else f"{label[:middle]}\n{label[middle + 1 :]}"


def draw(axes: Any, panel: Plot) -> None:
    colours = iter(COLOURS)
    colour = next(colours)
    for number, line in enumerate(panel.lines):
        points = [pair for pair in zip(line.x, line.y, strict=True) if None not in pair]
        style = {"marker": "." if line.dots else "", "markersize": 3}
        if line.marker:
            style |= {"marker": line.marker, "linestyle": ""}
        if line.faint:
            style |= {"alpha": 0.35, "linewidth": 0.5}
        style |= {"color": colour, "label": line.label or None}
        axes.plot([x for x, _ in points], [y for _, y in points], **style)
        bars = zip(line.x, line.y, line.errors, strict=False)
        for x, y, error in ((x, y, error) for x, y, error in bars if None not in (x, y, error)):
            axes.errorbar(x, y, error, color=colour, elinewidth=0.6, capsize=1.5, capthick=0.6)
        if not line.faint and number + 1 < len(panel.lines):
            colour = next(colours)
    if panel.mark:
        ring = {"marker": "o", "markersize": 6, "markerfacecolor": "none", "markeredgewidth": 0.8}
        axes.plot([panel.mark.x], [panel.mark.y], color=COLOURS[1], linestyle="", **ring)
        axes.set_title(panel.mark.text, loc="right", fontsize=TEXT - 1, color=COLOURS[1], pad=2)
    axes.set(xlabel=panel.x_label, ylabel=wrap(panel.y_label))
    if not panel.log:
        axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.locator_params(axis="x", nbins=4)  # few, so that those of long runs are apart
    if panel.log:
        axes.set(xscale="log", yscale="log")
    if panel.log_y:
        axes.set(yscale="log")
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axes.yaxis.set_minor_formatter(lambda y, _: f"{y:g}" if f"{y:e}"[0] in "25" else "")
    if panel.x_range:
        low, high = panel.x_range
        axes.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    if any(line.label for line in panel.lines):
        axes.legend(handlelength=1.2)


def render(page: Page, format: str) -> bytes:
    """Returns a page as PNG or PDF, without a date or version: the same page gives the same bytes."""
    import matplotlib

    metadata = {"png": ["Software"], "pdf": ["CreationDate", "Creator", "Producer"]}[format]
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        page.savefig(file, format=format, dpi=page.dpi, metadata=dict.fromkeys(metadata))
    return file.getvalue()
