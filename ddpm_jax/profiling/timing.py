"""Measures the seconds per step: after a warm-up, in units of several steps, with their spread."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

SECONDS = 5.0  # duration of a measurement
MIN_UNITS = 3  # even if they take longer
UNIT = 0.1  # seconds: the least duration of a unit, over whose steps Python's overhead is spread
ENDLESS = 1 << 40  # a number of steps

Facts = dict[str, Any]


class Timing(NamedTuple):
    """A measurement in units, each of which ends by waiting for the device."""

    seconds: list[float]  # per step, of each unit
    steps: int  # per unit

    def facts(self, images: int | float) -> Facts:
        """Returns the numbers to report, for steps that process this many images each."""
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

    def time_steps(steps: int) -> float:
        start = time.perf_counter()
        run_steps(steps)
        return max(time.perf_counter() - start, 1e-9)

    time_steps(1)
    one = time_steps(1)
    steps = min(max(math.ceil(UNIT / one), 1), limit)
    units = min(max(int(SECONDS / (steps * one)), MIN_UNITS), int(SECONDS / UNIT))
    if jax.process_count() > 1:  # with unequal counts they would wait for each other forever
        steps, units = map(int, multihost_utils.broadcast_one_to_all(np.array([steps, units])))
    return Timing([time_steps(steps) / steps for _ in range(units)], steps)
