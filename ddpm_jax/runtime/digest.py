"""A digest of each array, computed where it lies, to verify that a restored state is the saved one.

Orbax lets a flipped bit through and silently casts a wrong dtype; comparing digests catches both.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

Record = dict[str, list]  # [dtype, shape, digest] of each array, by its path
MIX = (16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)  # shifts and factors of MurmurHash3's finalizer
GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: neighbouring positions get unlike masks
LARGE = 1 << 18  # elements, from which on XLA outweighs its compilation
WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}  # by bytes per element


@jax.jit
def digest(array: Array) -> UInt32[Array, ""]:
    """Returns the sum modulo 2^32 of the array's words, each mixed with its position.

    The mixing is invertible, so that a change to one word always changes the sum; changes to several
    words cancel once in 2^32. A sum has no order, so that every sharding gives the same digest.
    """
    bits = array.astype(jnp.uint8) if array.dtype == jnp.bool_ else array
    words = jax.lax.bitcast_convert_type(bits, WORDS[bits.dtype.itemsize]).astype(jnp.uint32)
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        position = position * size + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    mixed = words ^ (position * jnp.uint32(GOLDEN))
    for shift, factor in MIX:
        mixed = (mixed ^ (mixed >> shift)) * jnp.uint32(factor)
    return jnp.sum(mixed, dtype=jnp.uint32)


def digest_on_host(array: np.ndarray) -> np.uint32:
    """Returns the same digest by numpy, which compiles nothing: a state has dozens of shapes."""
    flat = np.ascontiguousarray(array).reshape(-1)
    words = flat.view(f"u{min(flat.dtype.itemsize, 4)}").astype(np.uint32)
    mixed = words ^ (np.arange(len(words), dtype=np.uint32) * np.uint32(GOLDEN))
    for shift, factor in MIX:
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    return mixed.sum(dtype=np.uint32)


def leaves_by_path(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths, such as "params/conv_in/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def kinds(tree: Any) -> Record:
    """Returns [dtype, shape] of every array or ShapeDtypeStruct in a tree, by its path."""
    return {
        name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in leaves_by_path(tree).items()
    }


def record(tree: Any) -> Record:
    """Returns [dtype, shape, digest] of every array in a tree, by its path."""
    # One small program per shape: a single program over all arrays takes long to compile.
    digests = jax.device_get([start_digest(leaf) for leaf in jax.tree.leaves(tree)])
    pairs = zip(kinds(tree).items(), digests, strict=True)
    return {name: [*kind, int(value)] for (name, kind), value in pairs}


def start_digest(array: Array | np.ndarray) -> UInt32[Array, ""] | np.uint32:
    """Returns an array's digest, without waiting for it if the array is replicated."""
    if not isinstance(array, jax.Array) or lies_on_host(array):
        return digest_on_host(np.asarray(array))
    value = digest(array)
    # Collective programs in flight at the same time can block each other on CPUs.
    return value if array.sharding.is_fully_replicated else jax.block_until_ready(value)


def lies_on_host(array: Array) -> bool:
    """Returns whether an array is in this process's own memory, and small enough for numpy."""
    devices = array.sharding.device_set
    on_cpu = all(device.platform == "cpu" for device in devices)
    return on_cpu and array.is_fully_addressable and array.size < LARGE


def difference(saved: Record, found: Record) -> str:
    """Describes the first difference, "" without one; compares digests where both have them."""
    for name in sorted(saved.keys() | found.keys()):
        if name not in saved or name not in found:
            return f"{name} is {'missing' if name not in saved else 'saved, but not in this run'}"
        for kind, before, now in zip(
            ("dtype", "shape", "digest"), saved[name], found[name], strict=False
        ):
            if before != now:
                return f"{name} was saved with {kind} {before}, and now has {now}"
    return ""
