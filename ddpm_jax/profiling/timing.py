"""Measures the seconds of a step: repeats it after a warm-up, in units, and reports their spread."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

SECONDS = 5.0  # for which a part is timed
MIN_UNITS = 3  # where a unit takes long
UNIT = 0.1  # seconds; a unit is as many steps as fill it, so that Python's overhead is spread over them
ENDLESS = 1 << 40

Facts = dict[str, Any]


class Timing(NamedTuple):
    """Seconds per step of each unit; the device is waited for after every unit."""

    seconds: list[float]
    steps: int  # in a unit

    def facts(self, images: int | float) -> Facts:
        """The numbers to report of steps that make this many images each."""
        low, median, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return {
            "seconds": median,
            "quartiles": [low, high],
            "best": min(self.seconds),
            "units": len(self.seconds),
            "steps_a_unit": self.steps,
            "steps_per_second": 1.0 / median,
            "images_per_second": images / median,
        }


def measure(run_steps: Callable[[int], Any], limit: int = ENDLESS) -> Timing:
    """Times run_steps(n), which runs n steps and waits for them; n is at most 'limit'."""

    def seconds_of(steps: int) -> float:
        since = time.perf_counter()
        run_steps(steps)
        return max(time.perf_counter() - since, 1e-9)

    seconds_of(1)
    one = seconds_of(1)
    steps = min(max(math.ceil(UNIT / one), 1), limit)
    units = min(max(int(SECONDS / (steps * one)), MIN_UNITS), int(SECONDS / UNIT))
    if jax.process_count() > 1:  # with unequal counts they would wait for each other forever
        steps, units = map(int, multihost_utils.broadcast_one_to_all(np.array([steps, units])))
    return Timing([seconds_of(steps) / steps for _ in range(units)], steps)
