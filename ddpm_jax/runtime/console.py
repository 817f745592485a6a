"""Console output of a run: a progress bar on a terminal, plain lines in a log."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import NamedTuple

from tqdm.auto import tqdm

from ddpm_jax.distributed import mesh

PATIENCE = 10.0  # seconds that a program may be silent about what it does
listener: ContextVar[Callable[[str], object] | None] = ContextVar("listener", default=None)


@contextmanager
def quiet(listen: Callable[[str], object]) -> Iterator[None]:
    """Passes lines to a function instead of printing them, and hides progress bars, in this thread."""
    token = listener.set(listen)
    try:
        yield
    finally:
        listener.reset(token)


def say(text: str) -> None:
    """Prints a line, above the progress bar if there is one, on the first process only."""
    if not mesh.is_first_process():
        return
    if listen := listener.get():
        listen(text)
        return
    try:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        # The reader, "| tee" or the terminal, is gone, which must not end the run.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_interactive() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress(label: str, total: int, initial: int = 0, unit: str = "step") -> tqdm:
    """Returns a progress bar with rate and time left, hidden without a terminal or a notebook."""
    hidden = not is_interactive() or not mesh.is_first_process() or listener.get() is not None
    return tqdm(
        desc=label, total=total, initial=initial, unit=unit, disable=hidden, dynamic_ncols=True
    )


@contextmanager
def doing(work: str, bar: tqdm | None = None, at_once: bool = False) -> Iterator[None]:
    """Says what is being done: in the progress bar while it lasts, or without one in a line.

    The line is for what takes longer than PATIENCE seconds, or 'at_once'.
    """
    if bar is not None and not bar.disable:
        label = bar.desc
        bar.set_description_str(work)
        try:
            yield
        finally:
            bar.set_description_str(label)
        return
    # In this context, which has the listener: another thread does not inherit it.
    timer = threading.Timer(PATIENCE, copy_context().run, (say, f"{work} ..."))
    timer.daemon = True
    if at_once:
        say(f"{work} ...")
    else:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Rate(NamedTuple):
    """Steps per second since a starting point, which is reset after a compilation, a grid or a logged row."""

    step: int
    since: float  # seconds, of time.monotonic

    @staticmethod
    def start(step: int) -> "Rate":
        return Rate(step, time.monotonic())

    def per_second(self, step: int) -> float:
        return (step - self.step) / max(time.monotonic() - self.since, 1e-9)


def show_training_row(bar: tqdm, step: int, steps: int, scalars: Mapping[str, float]) -> None:
    """Shows loss and rate beside the progress bar, or logs a line with all scalars and the time left."""
    values = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
    if "steps_per_second" in scalars:
        values += f"  ETA {format_duration((steps - step) / scalars['steps_per_second'])}"
    if not is_interactive():
        say(f"step {step}/{steps}  {values}")
    elif {"images_per_second", "loss"} <= scalars.keys():
        rate = scalars["images_per_second"]
        bar.set_postfix_str(f"loss {scalars['loss']:.4f}, {rate:.0f} images/s")


def format_duration(seconds: float) -> str:
    """Returns "1:02:03" for 3723 seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def describe_duration(seconds: float) -> str:
    """Returns a duration in the unit that fits it: 45 seconds, 12 minutes, 3.4 hours, 400 days."""
    for unit, size, limit in (("seconds", 1, 90), ("minutes", 60, 5400), ("hours", 3600, 172800)):
        if seconds < limit:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86400:,.0f} days"
