"""The conditions that a network may take beside x_t and the time."""

from typing import NamedTuple

from jaxtyping import Array, Float, Int

Labels = Int[Array, " b"]


class Given(NamedTuple):
    """The conditions of a batch, image by image; a network reads those that it was built for."""

    labels: Labels | None = None
    augmentation: Float[Array, "b _"] | None = None
    image: Float[Array, "b h w _"] | None = None


NOTHING = Given()
