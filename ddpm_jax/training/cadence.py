"""When training logs, draws and saves."""

import time
from typing import NamedTuple

from ddpm_jax.distributed import processes


def is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def is_logged(step: int, every: int) -> bool:
    """Returns whether a step ends a logged row: every 'every' steps, and before that at 1, 2, 5, 10, 20, 50, ...

    It depends on the step alone, so that a resumed run logs the same rows.
    """
    is_early = step < every and f"{step}".rstrip("0") in ("1", "2", "5")
    return is_due(step, every) or is_early


class Clock(NamedTuple):
    """The time since a checkpoint, and the step from which on it is read again."""

    saved: float  # when, by time.monotonic
    step: int  # of the checkpoint
    next: int

    @staticmethod
    def start(step: int) -> "Clock":
        return Clock(time.monotonic(), step, step + 1)


def check(clock: Clock, step: int, minutes: float) -> tuple[bool, Clock]:
    """Returns whether so many minutes have passed since a checkpoint, 0 never, and the clock for later steps.

    All processes follow the first one's clock, which they ask for when half of the time that is left has
    passed at the pace so far: for each checkpoint a few times, not at every step.
    """
    if minutes == 0 or step < clock.next:
        return False, clock
    passed = processes.share(f"the clock at step {step}", time.monotonic() - clock.saved)
    left = 60.0 * minutes - passed
    if left <= 0.0:
        return True, clock
    pace = (step - clock.step) / max(passed, 1e-9)  # steps per second
    return False, clock._replace(next=step + max(1, int(0.5 * left * pace)))
