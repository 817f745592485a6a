"""The mesh, one axis "data" over the devices of all processes, and the shardings on it.

Batches are sharded by image. The train state is replicated or, with "fsdp", sharded array by array; a
step's numbers are the same up to the order of floating-point sums.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PARAMS = ("replicated", "fsdp")
SMALL = 1 << 12  # elements; smaller arrays are not worth a collective of their own


def is_first_process() -> bool:
    """Returns whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def is_on_cpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"


class Layout(NamedTuple):
    """How a step is laid out over devices and memory; its result does not depend on it."""

    mesh: Mesh
    params: str  # "replicated", or "fsdp" for sharded
    accumulation: int  # the parts of a batch that pass the network one after another
    remat: tuple[int, ...]  # heights at which the backward pass recomputes activations


def layout(
    present: Sequence[jax.Device] | None,  # pyright: ignore[reportInvalidTypeForm]
    *,
    devices: int,
    params: str,
    accumulation: int,
    remat: tuple[int, ...],
) -> Layout:
    """Returns the layout of a config's 'parallel' section. Raises ValueError for an invalid field."""
    if params not in PARAMS:
        raise ValueError(f"parallel.params is {params!r}; it must be replicated or fsdp")
    if accumulation < 1:
        raise ValueError(f"parallel.accumulation is {accumulation}; it must be at least 1")
    return Layout(
        mesh=mesh(devices, present),
        params=params,
        accumulation=accumulation,
        remat=tuple(remat),
    )


def mesh(
    devices: int,
    present: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
) -> Mesh:
    """Returns a mesh of the first 'devices' devices of 'present', by default jax's own; 0 takes all.

    Raises ValueError if there are too few, or if the processes of the run cannot share them evenly.
    """
    is_own = present is None
    present = jax.devices() if present is None else present
    if not 0 <= devices <= len(present):
        raise ValueError(
            f"parallel.devices is {devices}; this machine has {len(present)}, and 0 takes them all"
        )
    chosen = present[: devices or len(present)]
    if is_own and len(chosen) % jax.process_count():
        raise ValueError(
            f"parallel.devices is {devices}, which {jax.process_count()} processes cannot share evenly;"
            " set it to 0 for all devices"
        )
    # Auto, because linen's Dropout does not trace under Explicit axes, jax's new default.
    return jax.make_mesh((len(chosen),), ("data",), (AxisType.Auto,), devices=chosen)


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Shards the first axis, the images of a global batch, over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def state_shardings(layout: Layout, tree: Any) -> Any:
    """Returns the sharding of each array, or shape, of a train state."""
    if layout.params == "replicated":
        replicated = replicated_sharding(layout.mesh)
        return jax.tree.map(lambda leaf: replicated, tree)
    return jax.tree.map(lambda leaf: fsdp_sharding(layout.mesh, leaf.shape), tree)


def fsdp_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Shards the longest axis that the devices share evenly; replicates small arrays."""
    axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
    if not axes or math.prod(shape) < SMALL:
        return replicated_sharding(mesh)
    longest = max(axes, key=lambda axis: (shape[axis], axis))
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, "data"))


def gather(layout: Layout, tree: Any) -> Any:
    """Replicates sharded arrays on every device; also under jit."""
    if layout.params == "replicated":
        return tree
    replicated = replicated_sharding(layout.mesh)
    return jax.jit(lambda tree: jax.lax.with_sharding_constraint(tree, replicated))(tree)


def check_batch(mesh: Mesh, size: int, name: str) -> None:
    """Raises ValueError, naming the field, if the devices cannot share a global batch evenly."""
    if size < 1:
        raise ValueError(f"{name} is {size}; it must be at least 1")
    if size % mesh.size:
        fewer = [n for n in range(mesh.size, 0, -1) if size % n == n % jax.process_count() == 0]
        remedies = [f"make it a multiple of {mesh.size}"]
        if fewer:
            remedies.append(f"set parallel.devices={fewer[0]}")
        if name == "train.batch_size":  # which a stored run keeps
            remedies = [*remedies[1:], f"{remedies[0]} in a new run"]
        raise ValueError(
            f"{name} is {size}, which {mesh.size} devices cannot share evenly; {', or '.join(remedies)}"
        )


def local_rows(size: int) -> slice:
    """Returns the rows of a global batch that this process reads."""
    count = size // jax.process_count()
    return slice(jax.process_index() * count, (jax.process_index() + 1) * count)


def put(mesh: Mesh, local: Any) -> Any:
    """Makes a global batch from the rows that each process has read, array by array."""
    put_one = partial(jax.make_array_from_process_local_data, batch_sharding(mesh))
    return jax.tree.map(put_one, local)


def fetch(tree: Any) -> Any:
    """Returns global arrays as whole numpy arrays, on every process."""
    if jax.process_count() > 1:
        tree = multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)
