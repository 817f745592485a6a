"""What a run tells: lines and a progress bar on the console, metrics.jsonl, TensorBoard, grids.

On a terminal there is a progress bar; in a log, plain lines.
"""

import io
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tqdm.auto import tqdm

from ddpm_jax import parallel, workdir

Grid = UInt8[np.ndarray, "rows columns c"]
GAP = 96  # the gray of the lines between the images of a grid


def say(text: str) -> None:
    """One line, above the progress bar if there is one."""
    if not parallel.first_process():
        return
    try:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:  # who listened, "| tee" say, is gone: no reason to lose a run
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def interactive() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress(what: str, total: int, initial: int = 0, unit: str = "step") -> tqdm:
    """A bar with rate and time left; nothing at all where there is no terminal."""
    hidden = not interactive() or not parallel.first_process()
    return tqdm(
        desc=what, total=total, initial=initial, unit=unit, disable=hidden, dynamic_ncols=True
    )


class Rate(NamedTuple):
    """Steps per second since a moment; begun anew after what is not a step, a compilation or a grid."""

    step: int
    since: float

    @staticmethod
    def start(step: int) -> "Rate":
        return Rate(step, time.monotonic())

    def at(self, step: int) -> float:
        return (step - self.step) / max(time.monotonic() - self.since, 1e-9)


def training_row(bar: tqdm, step: int, steps: int, scalars: Mapping[str, float]) -> None:
    """Beside the progress bar, or as a line of a log: every scalar, and the time left."""
    values = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
    if "steps_per_second" in scalars:
        values += f"  ETA {clock((steps - step) / scalars['steps_per_second'])}"
    if not interactive():
        say(f"step {step}/{steps}  {values}")
    elif {"images_per_second", "loss"} <= scalars.keys():
        rate = scalars["images_per_second"]
        bar.set_postfix_str(f"loss {scalars['loss']:.4f}, {rate:.0f} images/s")


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


class Writer(NamedTuple):
    """Scalars and images by clu's MetricWriter calls, without its TensorFlow."""

    metrics: epath.Path
    rows: list[str]
    events: EventsWriter | None  # written at once: SummaryWriter's thread, if it fails, hangs us

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        row = {"step": step} | {name: float(value) for name, value in scalars.items()}
        self.rows.append(json.dumps(row) + "\n")
        if not parallel.first_process():
            return
        if "://" in str(self.metrics):  # object stores cannot append
            workdir.write(self.metrics, "".join(self.rows))
        else:
            with self.metrics.open("a") as file:
                file.write(self.rows[-1])
        self.add(step, [summary.scalar(name, value) for name, value in scalars.items()])

    def newest(self) -> dict[str, Any]:
        """The last row, also where it is of the run that this one resumes; {} if there is none."""
        return json.loads(self.rows[-1]) if self.rows else {}

    def write_images(self, step: int, images: Mapping[str, Grid]) -> None:
        shown = [summary.image(name, image, dataformats="HWC") for name, image in images.items()]
        self.add(step, shown)

    def add(self, step: int, summaries: list) -> None:
        if self.events is not None:
            for each in summaries:
                event = event_pb2.Event(step=step, wall_time=time.time(), summary=each)
                self.events.write_event(event)
            self.events.flush()

    def flush(self) -> None:
        if self.events is not None:
            self.events.flush()

    def close(self) -> None:
        if self.events is not None:
            self.events.close()


def writer(directory: epath.Path, step: int) -> Writer:
    """Goes on from 'step': rows that an interrupted run logged after it are dropped."""
    metrics, kept = directory / "metrics.jsonl", []
    if metrics.exists():
        rows = metrics.read_bytes().decode(errors="replace").splitlines(keepends=True)
        kept = [row for row in rows if step_of(row) <= step]
        if kept != rows:
            workdir.write(metrics, "".join(kept))
    if not parallel.first_process():
        return Writer(metrics, kept, None)
    events = EventsWriter(str(directory / "events"))
    began = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    # TensorBoard drops what an interrupted run wrote from this step on.
    events.write_event(event_pb2.Event(step=step + 1, wall_time=time.time(), session_log=began))
    return Writer(metrics, kept, events)


def step_of(row: str) -> int | float:
    """The step of a row; infinity for what a killed process or a bad disk left of one."""
    try:
        return json.loads(row)["step"] if row.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def grid(images: UInt8[np.ndarray, "n h w c"]) -> Grid:
    """Images in a near-square grid, in order, row by row, with gray lines between them."""
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    lines = math.ceil(count / columns)
    gap = max(1, height // 16)
    tiled = np.full((lines, height + gap, columns, width + gap, channels), GAP, np.uint8)
    for i, image in enumerate(images):
        tiled[i // columns, :height, i % columns, :width] = image
    whole = tiled.reshape(lines * (height + gap), columns * (width + gap), channels)
    return whole[:-gap, :-gap]


def write_png(path: epath.Path, image: Grid, enlarge: bool = True) -> None:
    """Small pictures are enlarged by whole pixels, so that a viewer shows them sharp.

    Gray, gray with alpha, RGB and RGBA as they are; of other channel counts the first is shown.
    """
    if image.shape[-1] not in (2, 3, 4):
        image = image[..., 0]
    scale = max(1, 512 // max(image.shape[:2])) if enlarge else 1
    image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    workdir.write(path, file.getvalue())


def write_npz(path: epath.Path, images: UInt8[np.ndarray, "n h w c"]) -> None:
    """'arr_0', uint8 [N, H, W, C]: the form that the OpenAI evaluators read."""
    file = io.BytesIO()
    np.savez(file, images)
    workdir.write(path, file.getvalue())
