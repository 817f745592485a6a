"""What a run's images and labels are like, to be compared with those of a data set that it opens."""

from typing import NamedTuple

from ddpm_jax.datasets import class_names


class Expected(NamedTuple):
    """Shape, grey levels and label names of a run's images."""

    shape: tuple[int, int, int]
    levels: int
    labels: tuple[str, ...] | None = ()  # () if unused, None if an earlier version stored none

    def for_network(self, classes: int) -> "Expected":
        """Returns what a network of 'classes' classes needs: no labels if it has none."""
        return self if classes or self.labels is None else self._replace(labels=())

    def check(
        self, name: str, shape: tuple[int, int, int], levels: int, labels: tuple[str, ...]
    ) -> None:
        """Raises ValueError if the images or labels of the data set 'name' are different ones."""
        if (self.shape, self.levels) != (shape, levels):
            mine, its = (
                "{}x{}x{} with {} grey levels".format(*kind[0], kind[1])
                for kind in ((self.shape, self.levels), (shape, levels))
            )
            raise ValueError(f"the run's images are {mine}, but those of {name!r} are {its}")
        if self.labels and self.labels != labels:
            mine, its = (class_names.table(names) or "none" for names in (self.labels, labels))
            raise ValueError(f"the run's labels are {mine}; those of {name!r} are {its}")
