"""The labels of the images that Trained draws or measures: numbers or names, for all images or one for each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from ddpm_jax.datasets import class_names
from ddpm_jax.run import run as runs
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Chain, Run

Labels = Int[np.ndarray, " n"]
Label = Any  # a number or a name, or a sequence of them: for all images, or one for each


def choose(run: Run, chain: Chain, label: Label | None, count: int) -> Labels | None:
    """Returns each image's label; None if no network uses labels.

    Without a choice they are those of the config: image i is of class i modulo their number, or all are
    of one. Raises ValueError for a label that is not among the classes.
    """
    classes = sampling.class_count(run.model, chain)
    if label is None or (np.ndim(label) == 0 and label == runs.ALL):
        numbers = np.arange(count)
        chosen = numbers % max(classes, 1) if chain.label == runs.ALL else [chain.label] * count
        return np.asarray(chosen, np.int32) if classes else None
    if not classes:
        raise ValueError(f"label is {label!r}, but this network takes no labels")
    given = repeat(label, 1)
    if len(given) not in (1, count):
        raise ValueError(f"{len(given)} labels for {count} images; give one, or one for each")
    numbers = [to_number(each, run.labels or (), classes) for each in given]
    return np.resize(np.asarray(numbers, np.int32), count)


def repeat(label: Label, times: int) -> list[Any]:
    """Returns the labels, as a list, so many times over; a single one once."""
    return [label] if np.ndim(label) == 0 else [*label] * times


def to_number(label: Any, names: Sequence[str], classes: int) -> int:
    """Returns the number of a label. Raises ValueError for one that is not among the classes."""
    if isinstance(label, str):
        return class_names.label_of(label, names)
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise ValueError(f"label is {label!r}; it must be a class's number or name")
    if not 0 <= label < classes:
        raise ValueError(f"label is {label}; it must lie between 0 and {classes - 1}")
    return int(label)


def require(run: Run, chain: Chain, label: Label | None, count: int) -> Labels | None:
    """Returns the labels of given images. Raises ValueError if the network needs them and they are missing."""
    is_needed = run.model.network.classes and chain.label == runs.ALL
    if label is None and is_needed:
        raise ValueError("this network needs to know the images' labels; give label=")
    return choose(run, chain, label, count)
