"""The mesh and the shardings: one axis, "data", over the devices. One process for now."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array


def mesh(devices: int) -> Mesh:
    """A mesh of the first 'devices' devices; 0 takes all.

    Raises ValueError if there are fewer.
    """
    present = jax.devices()
    if not 0 <= devices <= len(present):
        raise ValueError(f"parallel.devices is {devices}; this machine has {len(present)}")
    chosen = present[: devices or len(present)]
    # Auto: under Explicit axes, jax's new default, linen's Dropout does not trace.
    return jax.make_mesh((len(chosen),), ("data",), (AxisType.Auto,), devices=chosen)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def by_image(mesh: Mesh) -> NamedSharding:
    """The first axis, the images of a global batch, is spread over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(mesh: Mesh, size: int, name: str) -> None:
    """Raises ValueError, naming the field, if a global batch cannot be spread evenly."""
    if size < 1:
        raise ValueError(f"{name} is {size}; it must be at least 1")
    if size % mesh.size:
        raise ValueError(
            f"{name} is {size}, which {mesh.size} devices cannot share evenly;"
            f" make it a multiple of {mesh.size}, or set parallel.devices"
        )


def rows(size: int) -> slice:
    """Which rows of a global batch this process reads."""
    each = size // jax.process_count()
    return slice(jax.process_index() * each, (jax.process_index() + 1) * each)


def put(mesh: Mesh, local: np.ndarray) -> Array:
    """A global batch, out of the rows that this process read."""
    return jax.make_array_from_process_local_data(by_image(mesh), local)
