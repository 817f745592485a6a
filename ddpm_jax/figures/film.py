"""Films: x_t beside x_0-hat on the way from noise to image, and the sample grids of training."""

import io
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Float, UInt8
from PIL import Image

from ddpm_jax.diffusion import Images
from ddpm_jax.figures import trajectories
from ddpm_jax.figures.trajectories import TrainedRun, Walk
from ddpm_jax.runtime import animation, plotting
from ddpm_jax.runtime import images as image_output
from ddpm_jax.runtime.plotting import Cells, Figure, Film, Raster
from ddpm_jax.samplers import loop

FRAMES = 44  # at most, so that a GIF of digits stays below 1.5 MB and one of 32x32 below 4
PIXELS = 8 * 32 * 32  # of all images of a panel before enlargement: a few large or many small ones
IMAGES = 16  # of a panel at most
SIDE = 320  # pixels: images are enlarged until a panel is nearly as wide
EASE = 1.5  # the exponent by which steps per frame shrink towards the image, where details appear
EACH, FIRST, LAST = 80, 800, 4000  # milliseconds
GRIDS = 3  # of training, of which a film is made
GRID_FRAMES = 24  # at most
GRID_EACH = 400  # milliseconds
GRID_SIDE = 512  # pixels, which grids come near to by whole numbers: enlarged, or shrunk
Pairs = Float[Array, "b h w pair"]


def film(trained: TrainedRun) -> Figure:
    """The run's own sampler at work, and, if training left three sample grids or more, what it learnt."""
    places = marks(trained.program.steps)
    count = panel(trained.run.model.shape).images
    walk = Walk(places, np.arange(count))
    (seen,) = trajectories.run_walks(trained, "film", [walk], observe_both)
    times = [int(trained.program.times[place]) for place in places]
    x_t, x_0_hat = np.split(trajectories.to_bytes(seen, trained.run.model.levels), 2, axis=-1)
    films = {"": sampling_film(x_t, x_0_hat, times)}
    grids = training_grids(trained)
    if len(grids) >= GRIDS:
        films["-training"] = training_film(grids)
    facts = {"images": count, "numbers": list(range(count)), "times": times}
    return Figure({}, facts | {"training_steps": [grid.step for grid in grids]}, films)


def marks(steps: int) -> tuple[int, ...]:
    """Returns the places on a path of 'steps' steps that a film shows, the last of which lie closest."""
    left = np.linspace(1.0, 0.0, FRAMES) ** EASE
    return tuple(dict.fromkeys((steps * (1.0 - left)).round().astype(int).tolist()))


class Panel(NamedTuple):
    """How many images a panel of a film shows, in how many columns, and how much they are enlarged."""

    images: int
    columns: int
    scale: int


def panel(shape: tuple[int, int, int]) -> Panel:
    """Returns the panel for images of a shape: full rows, at least as wide as high."""
    height, width = shape[:2]
    most = min(IMAGES, max(1, PIXELS // (height * width)))
    rows = math.isqrt(most)
    columns = most // rows
    return Panel(rows * columns, columns, max(1, SIDE // (columns * width)))


@jax.jit
def join(x_t: Images, x_0_hat: Images) -> Pairs:
    return jnp.concatenate([x_t, x_0_hat], axis=-1)


def observe_both(
    program: loop.Program, params: loop.Params, state: loop.State, place: int
) -> Pairs:
    """Returns x_t and x_0-hat(x_t), one behind the other as channels."""
    return join(state[0], trajectories.observe_x_0(program, params, state, place))


def sampling_film(
    x_t: UInt8[np.ndarray, "m n h w c"], x_0_hat: UInt8[np.ndarray, "m n h w c"], times: list[int]
) -> Film:
    """A panel of x_t beside one of x_0-hat, frame by frame."""
    frames, middles = [], []
    shape = x_t.shape[2:]
    _, columns, scale = panel(shape)
    for pair in zip(x_t, x_0_hat, strict=True):
        panels: list[Cells] = [images.reshape(-1, columns, *shape) for images in pair]
        frame, middles, _ = plotting.tile(np.concatenate(panels, axis=1), (columns,), scale)
        frames.append(frame)
    left, right = np.mean(middles[:columns]), np.mean(middles[columns:])
    return Film(
        frames=frames,
        captions=[f"$t = {t}$" for t in times],
        milliseconds=animation.hold_ends(len(frames), EACH, FIRST, LAST),
        headers=[(float(left), "$x_t$"), (float(right), r"$\hat{x}_0$")],
        exact=scale > 1,
    )


class TrainingGrid(NamedTuple):
    """A sample grid of training, and its step."""

    step: int
    picture: Raster


def training_grids(trained: TrainedRun) -> list[TrainingGrid]:
    """Returns the sample grids of up to the checkpoint's step, or as many evenly spaced ones as a film shows.

    Those of another size than the last, from before the config's count of images changed, are left out.
    """
    paths = {
        int(step): path
        for path in (trained.run.directory / "samples").glob("*-grid.png")
        if (step := path.name.removesuffix("-grid.png")).isdecimal() and int(step) <= trained.step
    }
    steps = sorted(paths)
    chosen = np.linspace(0, len(steps) - 1, min(len(steps), GRID_FRAMES)).round().astype(int)
    grids = [TrainingGrid(steps[i], read_grid(paths[steps[i]])) for i in chosen]
    return [grid for grid in grids if grid.picture.shape == grids[-1].picture.shape]


def read_grid(path: epath.Path) -> Raster:
    """Returns a grid of a file before its enlargement, shrunk if it is larger than a film."""
    with Image.open(io.BytesIO(path.read_bytes())) as file:
        picture = Image.fromarray(image_output.original(np.asarray(file.convert("RGB"))))
    return np.asarray(picture.reduce(-(-max(picture.size) // GRID_SIDE)))


def training_film(grids: list[TrainingGrid]) -> Film:
    """The sample grids, which are of the same noise, one after the other."""
    scale = max(1, GRID_SIDE // max(grids[-1].picture.shape))
    return Film(
        frames=[grid.picture.repeat(scale, axis=0).repeat(scale, axis=1) for grid in grids],
        captions=[f"step {grid.step:,}" for grid in grids],
        milliseconds=animation.hold_ends(len(grids), GRID_EACH, GRID_EACH, LAST),
        exact=scale > 1,
    )
