"""A figure's files: a PDF for a paper, and a PNG for a screen, which has a title above it."""

import io

import numpy as np
from etils import epath
from PIL import Image

from ddpm_jax.runtime import files, plotting, text
from ddpm_jax.runtime.plotting import Page, Raster

LINE = 1.6 * text.TEXT / 72  # inches: the height of a title's line
MARGIN = 0.05  # inches beside a title
SEPARATOR = " · "  # of its parts


def save(path: epath.Path, page: Page, title: str = "") -> None:
    """Writes path.png and path.pdf, without a date or version: the same page gives the same bytes."""
    dpi = float(page.dpi)
    with Image.open(io.BytesIO(plotting.render(page, "png"))) as file:
        picture = np.asarray(file.convert("RGB"))
    titled = Image.fromarray(np.concatenate([*title_lines(title, picture.shape[1], dpi), picture]))
    png = io.BytesIO()
    titled.save(png, "PNG", dpi=(dpi, dpi))
    files.write(path.with_name(f"{path.name}.png"), png.getvalue())
    files.write(path.with_name(f"{path.name}.pdf"), plotting.render(page, "pdf"))


def title_lines(title: str, width: int, dpi: float) -> list[Raster]:
    """Returns a title as strips of pixels to put above a picture, one for each line that it takes."""
    lines, height = break_lines(title, width / dpi - 2 * MARGIN), round(LINE * dpi)
    return [
        text.line(width, height, [(MARGIN * dpi, line)], text.TEXT / 72 * dpi, "left")
        for line in lines
    ]


def break_lines(title: str, inches: float) -> list[str]:
    """Returns a title in lines that are no wider than a number of inches, unless one word is.

    Lines are broken between parts of the title, and between words only in a part that is wider.
    """
    lines: list[str] = []
    for part in text.literal(title).split(SEPARATOR):
        words = [part] if text.width(part) <= inches else part.split()
        for separator, word in zip([SEPARATOR] + [" "] * len(words), words, strict=False):
            longer = f"{lines[-1]}{separator}{word}" if lines else word
            if lines and text.width(longer) <= inches:
                lines[-1] = longer
            else:
                lines.append(word)
    return [line for line in lines if line]
