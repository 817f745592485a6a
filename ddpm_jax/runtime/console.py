"""What a run prints: lines and a progress bar.

A terminal gets a progress bar, a log gets plain lines.
"""

import os
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

from tqdm.auto import tqdm

from ddpm_jax.distributed import mesh


def say(text: str) -> None:
    """One line, above the progress bar if there is one."""
    if not mesh.is_first_process():
        return
    try:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:  # who listened, "| tee" say, is gone: no reason to lose a run
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_interactive() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress(what: str, total: int, initial: int = 0, unit: str = "step") -> tqdm:
    """A bar with rate and time left; nothing at all where there is no terminal."""
    hidden = not is_interactive() or not mesh.is_first_process()
    return tqdm(
        desc=what, total=total, initial=initial, unit=unit, disable=hidden, dynamic_ncols=True
    )


class Rate(NamedTuple):
    """Steps per second since a moment; restarted after a compilation or a grid, which are not steps."""

    step: int
    since: float

    @staticmethod
    def start(step: int) -> "Rate":
        return Rate(step, time.monotonic())

    def at(self, step: int) -> float:
        return (step - self.step) / max(time.monotonic() - self.since, 1e-9)


def show_training_row(bar: tqdm, step: int, steps: int, scalars: Mapping[str, float]) -> None:
    """Beside the progress bar, or as a line of a log: every scalar, and the time left."""
    values = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
    if "steps_per_second" in scalars:
        values += f"  ETA {format_duration((steps - step) / scalars['steps_per_second'])}"
    if not is_interactive():
        say(f"step {step}/{steps}  {values}")
    elif {"images_per_second", "loss"} <= scalars.keys():
        rate = scalars["images_per_second"]
        bar.set_postfix_str(f"loss {scalars['loss']:.4f}, {rate:.0f} images/s")


def format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
