"""metrics.jsonl and TensorBoard."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from ddpm_jax.distributed import mesh
from ddpm_jax.runtime import files
from ddpm_jax.runtime.images import Grid


class Writer(NamedTuple):
    """Scalars and images by clu's MetricWriter calls, without its TensorFlow."""

    metrics: epath.Path
    rows: list[str]
    # tensorboardX's EventsWriter, or None. Written at once: SummaryWriter's thread, if it fails, hangs us.
    events: Any

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

    def newest(self) -> dict[str, Any]:
        """The last row, also where it is of the run that this one resumes; {} without rows."""
        return json.loads(self.rows[-1]) if self.rows else {}

    def write_images(self, step: int, images: Mapping[str, Grid]) -> None:
        if self.events is None:
            return
        from tensorboardX import summary

        shown = [summary.image(name, image, dataformats="HWC") for name, image in images.items()]
        self.add(step, shown)

    def add(self, step: int, summaries: list) -> None:
        from tensorboardX.proto import event_pb2

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
        kept = [row for row in rows if parse_step(row) <= step]
        if kept != rows:
            files.write(metrics, "".join(kept))
    if not mesh.is_first_process():
        return Writer(metrics, kept, None)
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto import event_pb2

    events = EventsWriter(str(directory / "events"))
    began = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    # TensorBoard drops what an interrupted run wrote from this step on.
    events.write_event(event_pb2.Event(step=step + 1, wall_time=time.time(), session_log=began))
    return Writer(metrics, kept, events)


def parse_step(row: str) -> int | float:
    """The step of a row; infinity for what a killed process or a bad disk left of one."""
    try:
        return json.loads(row)["step"] if row.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
