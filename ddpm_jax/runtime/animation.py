"""Films: animated GIF and WebP of enlarged images, with a caption above each frame."""

import io
from collections.abc import Sequence

import numpy as np
from etils import epath
from PIL import Image

from ddpm_jax.runtime import files, text
from ddpm_jax.runtime.plotting import Film, Raster

LINE = 26  # pixels of a line of text, whose letters are legible on any screen
MARGIN = 8  # pixels around everything
COLOURS = 256  # of a GIF's frame
QUALITY = 90  # of a WebP that is not exact


def save(path: epath.Path, film: Film) -> None:
    """Writes path.gif and path.webp, which repeat for ever; the same film gives the same bytes."""
    pictures = [Image.fromarray(frame) for frame in compose(film)]
    exact = {"lossless": True} if film.exact else {"quality": QUALITY}
    for format, frames, options in (
        ("gif", [reduce_colours(picture) for picture in pictures], {}),
        ("webp", pictures, {"method": 4} | exact),
    ):
        file = io.BytesIO()
        frames[0].save(
            file,
            format,
            save_all=True,
            append_images=frames[1:],
            duration=list(film.milliseconds),
            loop=0,
            **options,
        )
        files.write(path.with_name(f"{path.name}.{format}"), file.getvalue())


def reduce_colours(picture: Image.Image) -> Image.Image:
    """Returns a picture as a GIF can hold it: gray unchanged, colours by a palette without dithering."""
    pixels = np.asarray(picture)
    if (pixels == pixels[..., :1]).all():
        return picture.convert("L")
    return picture.quantize(COLOURS, dither=Image.Dither.NONE)


def compose(film: Film) -> list[Raster]:
    """Returns the frames on white, each below its caption and the headers."""
    height, width = film.frames[0].shape[:2]
    headers = text.line(width, LINE, film.headers) if film.headers else None
    top = LINE * (1 + bool(film.headers))
    composed = []
    for frame, caption in zip(film.frames, film.captions, strict=True):
        page = np.full((top + height + 2 * MARGIN, width + 2 * MARGIN, 3), 255, np.uint8)
        inner = page[MARGIN : MARGIN + top + height, MARGIN : MARGIN + width]
        inner[:LINE] = text.line(width, LINE, [(width / 2, caption)])
        if headers is not None:
            inner[LINE:top] = headers
        inner[top:] = frame
        composed.append(page)
    return composed


def hold_ends(count: int, each: int, first: int, last: int) -> Sequence[int]:
    """Returns the milliseconds of 'count' frames, the first and the last of which stay longer."""
    return [first, *[each] * (count - 2), last][-count:]
