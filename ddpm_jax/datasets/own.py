"""A data set of the user's own: a function of a split's name, which a config names."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ddpm_jax.datasets import arrays, class_names
from ddpm_jax.datasets.expected import Expected
from ddpm_jax.datasets.source import Source, check_size
from ddpm_jax.runtime import user_code

LEVELS = 256  # grey levels of arrays; a Source of the user's may have others


class Own(NamedTuple):
    """A data section whose name is user code; its fields are those of Data."""

    name: str  # "module:function"
    data_dir: str  # passed on, if the function takes it
    image_size: int  # the height
    split: str
    held_out: str
    flip: bool
    expected: Expected | None = None  # of a run; not a field of the config

    def open(self, split: str) -> Source:
        """Imports the user's function and returns its images of a split. Raises ValueError for unfit ones."""
        opened = read(user_code.load("data.name", self.name), self.name, self.data_dir, split)
        check_size(self.name, opened.shape, self.image_size)
        if self.expected:
            opened = complete_labels(opened, self.expected.labels or ())
            self.expected.check(opened.name, opened.shape, opened.levels, opened.names)
        return opened

    def declared(self) -> tuple[tuple[int, int, int], int]:
        """Shape and grey levels of the images."""
        opened = self.open(self.split)
        return opened.shape, opened.levels


@lru_cache(maxsize=4)  # both splits of two data sets, since a user's function may take long
def read(function: Callable[..., Any], name: str, data_dir: str, split: str) -> Source:
    """Returns the images that a user's function returns for a split. Raises ValueError for unfit ones."""
    if not callable(function):
        raise ValueError(f"data.name {name} is {function!r:.80}; it must be a function of a split")
    takes_folder = "data_dir" in inspect.signature(function).parameters
    result = function(split, data_dir=data_dir) if takes_folder else function(split)
    if isinstance(result, Source):
        return result
    images, labels = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    subject = f"data.name {name}, split {split!r},"
    images = arrays.check_images(np.asarray(images), subject)
    if labels is None:
        return Source(name=name, records=images, shape=images.shape[1:], levels=LEVELS)
    labels = np.asarray(labels)
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"{subject} has labels of shape {labels.shape} and dtype {labels.dtype}; they must be"
            f" {len(images)} integers from 0"
        )
    names = tuple(map(str, range(int(labels.max()) + 1)))
    return Source(
        name=name,
        records=images,
        shape=images.shape[1:],
        levels=LEVELS,
        classes=len(names),
        names=names,
        loaded_labels=labels.astype(np.int32),
    )


def complete_labels(source: Source, labels: tuple[str, ...]) -> Source:
    """Returns a split with all of a run's labels, if it lacks only the last of them."""
    numbered = class_names.are_numbers(source.names) and class_names.are_numbers(labels)
    if not numbered or not 0 < source.classes < len(labels):
        return source
    return source._replace(names=labels, classes=len(labels))
