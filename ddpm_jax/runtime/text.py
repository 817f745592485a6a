"""The style of figures, the width of a text in it, and a line of text as pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

TEXT = 7  # points
STYLE: dict[Any, Any] = {  # the keys' type, RcKeyType, cannot be imported without matplotlib
    "font.family": "STIXGeneral",  # comes with matplotlib, as does its mathematics
    "mathtext.fontset": "stix",
    "font.size": TEXT,
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": TEXT - 1,
    "ytick.labelsize": TEXT - 1,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    "legend.fontsize": TEXT - 1,
    "pdf.fonttype": 42,  # TrueType, which editors can read
}


def literal(text: str) -> str:
    """Returns a text in which figures show a dollar as such, not as the start of mathematics."""
    return text.replace("$", r"\$")


def width(text: str) -> float:
    """Returns the width of a text in inches."""
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=TEXT).get_extents().width / 72 if text else 0.0


def line(
    width: int,
    height: int,
    texts: Sequence[tuple[float, str]],
    size: float = 0.0,
    align: str = "center",
) -> UInt8[np.ndarray, "y x 3"]:
    """Draws a line of texts, each at a pixel, on white; their size is in pixels, by default as the height allows."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi = 72  # so that a point is a pixel
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
        for place, text in texts:
            figure.text(place / width, 0.3, text, ha=align, fontsize=size or 0.7 * height)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
