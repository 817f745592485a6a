"""Writes metrics to metrics.jsonl, to TensorBoard, and to a tracker if the config names one."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from ddpm_jax.distributed import mesh
from ddpm_jax.runtime import files, tracker
from ddpm_jax.runtime.images import Grid
from ddpm_jax.runtime.tracker import Tracker


class Writer(NamedTuple):
    """Writes scalars and images with the methods of clu's MetricWriter, but without TensorFlow."""

    metrics: epath.Path
    rows: list[str]  # lines of metrics.jsonl
    # tensorboardX's EventsWriter; None except on the first process. SummaryWriter is not used, because
    # a failure in its thread would block this process.
    events: Any
    tracker: Tracker | None = None  # likewise

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        row = {"step": step} | {name: float(value) for name, value in scalars.items()}
        self.rows.append(json.dumps(row) + "\n")
        if not mesh.is_first_process():
            return
        if "://" in str(self.metrics):  # object stores cannot append
            files.write(self.metrics, "".join(self.rows))
        else:
            with self.metrics.open("a") as file:
                file.write(self.rows[-1])
        if self.events is None:
            return
        from tensorboardX import summary

        self.add(step, [summary.scalar(name, value) for name, value in scalars.items()])
        if self.tracker:
            self.tracker.report(step, scalars)

    def newest(self) -> dict[str, float]:
        """Returns the last row's scalars, perhaps from before this run was resumed; {} without rows."""
        row = json.loads(self.rows[-1]) if self.rows else {}
        return {name: float(value) for name, value in row.items() if name != "step"}

    def write_images(self, step: int, images: Mapping[str, Grid]) -> None:
        if self.events is None:
            return
        from tensorboardX import summary

        summaries = [
            summary.image(name, image, dataformats="HWC") for name, image in images.items()
        ]
        self.add(step, summaries)
        if self.tracker:
            self.tracker.report_images(step, images)

    def add(self, step: int, summaries: list) -> None:
        for summary in summaries:
            self.events.write_event(make_event(step=step, summary=summary))
        self.events.flush()

    def flush(self) -> None:
        if self.events is not None:
            self.events.flush()

    def close(self) -> None:
        if self.events is not None:
            self.events.close()
        if self.tracker:
            self.tracker.close()


def writer(
    directory: epath.Path,
    step: int,
    tracker_name: str = "",
    config: Mapping[str, Any] | None = None,
) -> Writer:
    """Returns a writer that continues after 'step', and drops later rows of an interrupted run.

    The tracker of that name, "" for none, is told the run's config.
    """
    metrics, rows = directory / "metrics.jsonl", []
    if metrics.exists():
        stored = metrics.read_bytes().decode(errors="replace").splitlines(keepends=True)
        rows = [row for row in stored if parse_step(row) <= step]
        if rows != stored:
            files.write(metrics, "".join(rows))
    if not mesh.is_first_process():
        return Writer(metrics, rows, None)
    from tensorboardX.event_file_writer import EventsWriter

    events = EventsWriter(str(directory / "events"))
    # At a session's start TensorBoard drops what an interrupted run wrote from this step on.
    events.write_event(make_event(step=step + 1, session_log={"status": "START"}))
    return Writer(metrics, rows, events, tracker.open_run(tracker_name, directory, config or {}))


def write_measurement(directory: epath.Path, step: int, numbers: Mapping[str, float]) -> None:
    """Adds numbers that were measured of a step's checkpoint to TensorBoard.

    They are a series beside training's, the folder eval/, since TensorBoard follows one writer in a folder.
    """
    if not mesh.is_first_process():
        return
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter

    (directory / "eval").mkdir(parents=True, exist_ok=True)
    suffix = (
        f".{time.time_ns()}"  # a file's own name has seconds, and a second file would replace it
    )
    events = EventsWriter(str(directory / "eval" / "events"), filename_suffix=suffix)
    for name, value in numbers.items():
        events.write_event(make_event(step=step, summary=summary.scalar(name, value)))
    events.close()


def make_event(**fields: Any) -> Any:
    """Returns a TensorBoard event at the present time."""
    from tensorboardX.proto import event_pb2

    return event_pb2.Event(wall_time=time.time(), **fields)  # pyright: ignore[reportAttributeAccessIssue]


def parse_step(row: str) -> int | float:
    """Returns the step of a row, or infinity if a crash or a bad disk has damaged it."""
    try:
        return json.loads(row)["step"] if row.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
