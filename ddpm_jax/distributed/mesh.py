"""The mesh and the shardings: one axis, "data", over the devices of all processes.

Batches are spread over it by image. The train state is either whole on every device or, as "fsdp",
spread too, array by array; a step's numbers are the same up to the order of floating-point sums.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

SMALL = 1 << 12  # elements; an array below this is not worth a collective of its own


def is_first_process() -> bool:
    """Whether it is up to this process to write and to speak."""
    return jax.process_index() == 0


class Layout(NamedTuple):
    """How a step is laid out over the devices: what it computes does not depend on it."""

    mesh: Mesh
    params: str  # "replicated" or "fsdp": whole on every device, or spread over them
    accumulation: int  # parts of a batch that go through the network one after another
    remat: tuple[int, ...]  # heights at which the backward pass recomputes activations


def layout(
    present: Sequence[jax.Device] | None,
    *,
    devices: int,
    params: str,
    accumulation: int,
    remat: tuple[int, ...],
) -> Layout:
    """The config's section. Raises ValueError for what cannot be."""
    if params not in ("replicated", "fsdp"):
        raise ValueError(f"parallel.params is {params!r}; it must be replicated or fsdp")
    if accumulation < 1:
        raise ValueError(f"parallel.accumulation is {accumulation}; it must be at least 1")
    return Layout(mesh(devices, present), params, accumulation, tuple(remat))


def mesh(devices: int, present: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of the first 'devices' of those present, by default all that jax sees; 0 takes all.

    Raises ValueError if there are fewer.
    """
    ours = present is None
    present = jax.devices() if ours else present
    if not 0 <= devices <= len(present):
        raise ValueError(f"parallel.devices is {devices}; this machine has {len(present)}")
    chosen = present[: devices or len(present)]
    if ours and len(chosen) % jax.process_count():
        raise ValueError(f"parallel.devices is {devices}; {jax.process_count()} processes need 0")
    # Auto: under Explicit axes, jax's new default, linen's Dropout does not trace.
    return jax.make_mesh((len(chosen),), ("data",), (AxisType.Auto,), devices=chosen)


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis, the images of a global batch, is spread over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def state_shardings(layout: Layout, tree: Any) -> Any:
    """The sharding of every array of a train state, or of what has an array's shape."""
    whole = replicated_sharding(layout.mesh)
    if layout.params == "replicated":
        return jax.tree.map(lambda leaf: whole, tree)
    return jax.tree.map(lambda leaf: spread_sharding(layout.mesh, leaf.shape), tree)


def spread_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Along the longest axis that the devices can share evenly; small arrays stay whole."""
    axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
    if not axes or math.prod(shape) < SMALL:
        return replicated_sharding(mesh)
    longest = max(axes, key=lambda axis: (shape[axis], axis))
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, "data"))


def gather(layout: Layout, tree: Any) -> Any:
    """Arrays whole on every device, wherever they were; also under jit."""
    if layout.params == "replicated":
        return tree
    whole = replicated_sharding(layout.mesh)
    return jax.jit(lambda tree: jax.lax.with_sharding_constraint(tree, whole))(tree)


def check_batch(mesh: Mesh, size: int, name: str) -> None:
    """Raises ValueError, naming the field, if a global batch cannot be spread evenly."""
    if size < 1:
        raise ValueError(f"{name} is {size}; it must be at least 1")
    if size % mesh.size:
        raise ValueError(
            f"{name} is {size}, which {mesh.size} devices cannot share evenly;"
            f" make it a multiple of {mesh.size}, or set parallel.devices"
        )


def local_rows(size: int) -> slice:
    """Which rows of a global batch this process reads."""
    each = size // jax.process_count()
    return slice(jax.process_index() * each, (jax.process_index() + 1) * each)


def put(mesh: Mesh, local: Any) -> Any:
    """A global batch, out of the rows that this process read, array by array."""
    put_one = partial(jax.make_array_from_process_local_data, batch_sharding(mesh))
    return jax.tree.map(put_one, local)


def fetch(tree: Any) -> Any:
    """Global arrays as numpy ones, whole, on every process."""
    if jax.process_count() > 1:
        tree = multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)
