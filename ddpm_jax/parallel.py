"""Processes, the mesh and the shardings: one axis, "data", over the devices of all processes."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array


def start(coordinator: str, processes: int, process: int) -> None:
    """Joins this process to the others, before anything asks for devices. "" is one process.

    Raises ValueError for a half-told or impossible set-up.
    """
    if not coordinator and processes == 1:
        return
    if not coordinator or not 0 <= process < processes:
        raise ValueError(
            "several processes need --coordinator=HOST:PORT of the first, --num_processes=N, and"
            f" --process_id from 0 to N - 1; there is {coordinator!r}, {processes}, {process}"
        )
    if processes > 1:
        jax.distributed.initialize(coordinator, processes, process)


def first_process() -> bool:
    """Whether it is up to this process to write and to speak."""
    return jax.process_index() == 0


def mesh(devices: int) -> Mesh:
    """A mesh of the first 'devices' devices; 0 takes all.

    Raises ValueError if there are fewer.
    """
    present = jax.devices()
    if not 0 <= devices <= len(present):
        raise ValueError(f"parallel.devices is {devices}; this machine has {len(present)}")
    chosen = present[: devices or len(present)]
    if len(chosen) % jax.process_count():
        raise ValueError(f"parallel.devices is {devices}; {jax.process_count()} processes need 0")
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


def fetch(tree: Any) -> Any:
    """Global arrays as numpy ones, whole, on every process."""
    if jax.process_count() > 1:
        tree = multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)
