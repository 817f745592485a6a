"""Pictures of a run's folder as parts of a page: encoded into it, so that it needs no other file."""

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from etils import epath
from PIL import Image

FRAMES = 24  # of training's grids, spread over the steps
BYTES = 4 * 2**20  # of all frames together; above it, every second one is left out
SMALL = 400  # pixels of width, below which a browser must enlarge a picture without blurring it
LOSSY = 150_000  # bytes of a lossless picture, above which it is compressed with loss
TYPES = {".png": "png", ".gif": "gif", ".webp": "webp"}


class Picture(NamedTuple):
    """An encoded picture."""

    uri: str
    width: int
    height: int

    def tag(self, alt: str, kind: str = "", attributes: str = "") -> str:
        """Returns the img element; 'kind' is a class of page.css."""
        kind += " pixels" if self.width < SMALL else ""
        return (
            f'<img src="{self.uri}" width="{self.width}" height="{self.height}" alt="{escape(alt)}"'
            f' class="{kind.strip()}"{attributes}>'
        )


def encode(content: bytes, type: str, size: tuple[int, int]) -> Picture:
    text = base64.b64encode(content).decode()
    return Picture(f"data:image/{type};base64,{text}", *size)


def whole(path: epath.Path) -> Picture | None:
    """Returns a picture file as it is, an animation too; None for a missing or damaged file."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            return encode(content, TYPES[path.suffix], image.size)
    except OSError:
        return None


def small(path: epath.Path) -> Picture | None:
    """Returns a picture as WebP, without loss unless it is large; None for a missing or damaged file."""
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            content = webp(image, lossless=True)
            if len(content) > LOSSY:
                content = webp(image, quality=82)
            return encode(content, "webp", image.size)
    except OSError:
        return None


def webp(image: Image.Image, **options: bool | int) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", **options)
    return file.getvalue()


def steps_of(folder: epath.Path, name: str) -> dict[int, epath.Path]:
    """Returns the files <step>-<name> of a folder, by step."""
    files = folder.glob(f"*-{name}") if folder.exists() else ()
    found = {re.fullmatch(rf"(\d+)-{re.escape(name)}", path.name): path for path in files}
    return dict(sorted((int(match[1]), path) for match, path in found.items() if match))


def training_grids(directory: epath.Path) -> dict[int, Picture]:
    """Returns at most FRAMES of training's sample grids, by step: the first, the last, and some between."""
    paths = steps_of(directory / "samples", "grid.png")
    found = {step: small(paths[step]) for step in spread(list(paths), FRAMES)}
    frames = {step: picture for step, picture in found.items() if picture}
    while len(frames) > 2 and sum(len(each.uri) for each in frames.values()) > BYTES:
        frames = {step: frames[step] for step in spread(list(frames), -(-len(frames) // 2))}
    return frames


def spread(values: Sequence[int], count: int) -> list[int]:
    """Returns at most 'count' of the values, evenly spread, with the first and the last."""
    places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[place] for place in places]


def slider(frames: dict[int, Picture], label: str) -> str:
    """Returns pictures of which one is shown at a time, the last one first, with a slider over the steps."""
    steps, last = list(frames), len(frames) - 1
    shown = []
    for i, step in enumerate(steps):
        place = f' data-place="step {step:,}"'
        alt = f"{label} at training step {step:,}"
        shown.append(frames[step].tag(alt, "shown" if i == last else "", place))
    handle = (
        f'<input type="range" min="0" max="{last}" value="{last}" aria-label="training step"'
        f' aria-valuetext="step {steps[-1]:,}">'
    )
    bar = f'<div class="slider">{handle}<output>step {steps[-1]:,}</output></div>'
    return (
        f'<figure><figcaption>{escape(label)}</figcaption><div class="frames">{"".join(shown)}</div>'
        f"{bar if last else ''}</figure>"
    )
