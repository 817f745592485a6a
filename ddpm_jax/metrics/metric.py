"""The type of a metric's entry, which stands beside its function; evaluation/metric_table.py lists all."""

from collections.abc import Callable
from typing import NamedTuple


class Value(NamedTuple):
    """A metric's value, the number of images behind it, and its standard deviation if it has one."""

    value: float
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    std: float | None = None


class Metric(NamedTuple):
    """A metric of sample quality, as a function of Embeddings, and which direction is better.

    The function takes samples and a reference, or one image set if the metric needs no reference.
    It returns None if an Embedding lacks what it needs.
    """

    name: str
    function: Callable[..., Value | None]
    higher_is_better: bool
    inception_name: str = ""  # its usual name in Inception's features, if that differs
    needs_reference: bool = True
    least: int = 2  # images that each set must have
    feature: str = ""  # the field of Features that it needs besides the vectors


def stem(metric: Metric, space: str) -> str:
    """The start of a metric's names in files, with the name of the space unless it is Inception's."""
    if space == "inception":
        return metric.inception_name or metric.name
    return f"{metric.name}_{space}"
