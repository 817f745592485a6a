"""Seconds of a step that is taken again and again: warmed up, in units, with their spread."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

SECONDS = 5.0  # that a part is timed for
FEWEST = 3  # units, where they take longer
UNIT = 0.1  # seconds; a unit is as many steps as take that long, so that no step waits for Python
ENDLESS = 1 << 40

Facts = dict[str, Any]


class Timing(NamedTuple):
    """Seconds of a step, unit by unit; a unit is 'steps' of them between two waits for the device."""

    seconds: list[float]
    steps: int

    def facts(self, images: int | float) -> Facts:
        """What is to be said of steps that make 'images' images each."""
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


def timed(take: Callable[[int], Any], most: int = ENDLESS) -> Timing:
    """Times take(n), which takes n steps, 'most' at the most, and waits for them."""

    def seconds_of(steps: int) -> float:
        since = time.perf_counter()
        take(steps)
        return max(time.perf_counter() - since, 1e-9)

    seconds_of(1)
    one = seconds_of(1)
    steps = min(max(math.ceil(UNIT / one), 1), most)
    units = min(max(int(SECONDS / (steps * one)), FEWEST), int(SECONDS / UNIT))
    if jax.process_count() > 1:  # a step more here than there, and both would wait for ever
        steps, units = map(int, multihost_utils.broadcast_one_to_all(np.array([steps, units])))
    return Timing([seconds_of(steps) / steps for _ in range(units)], steps)
