"""A fingerprint of each array, computed where the array is: what is read back is what was saved.

Storage lets a flipped bit through and casts a wrong dtype in silence; these do not.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

Record = dict[str, list]  # of each array, by its name: dtype, shape, digest
GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: neighbouring positions get unlike masks
WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}  # by bytes of an element


@jax.jit
def digest(array: Array) -> UInt32[Array, ""]:
    """The sum modulo 2^32 of the array's words, each mixed with its position.

    The mixing is invertible, so a change to one word always shows (of several, but once in 2^32);
    a sum has no order, so every sharding gives the same. The mixer is MurmurHash3's.
    """
    bits = array.astype(jnp.uint8) if array.dtype == jnp.bool_ else array
    words = jax.lax.bitcast_convert_type(bits, WORDS[bits.dtype.itemsize]).astype(jnp.uint32)
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        position = position * size + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    mixed = words ^ (position * jnp.uint32(GOLDEN))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> shift)) * jnp.uint32(factor)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)


def leaves_by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths: "params/conv_in/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def kinds(tree: Any) -> Record:
    """Dtype and shape of every array, or of what stands for one."""
    return {
        name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in leaves_by_path(tree).items()
    }


def record(tree: Any) -> Record:
    """Dtype, shape and digest of every array.

    One small program per shape: a single one over all arrays takes long to compile.
    """
    digests = jax.device_get([start_digest(leaf) for leaf in jax.tree.leaves(tree)])
    pairs = zip(kinds(tree).items(), digests, strict=True)
    return {name: [*kind, int(value)] for (name, kind), value in pairs}


def start_digest(array: Array) -> UInt32[Array, ""]:
    """The digest, perhaps still being computed.

    Of an array that is spread over devices it is waited for: many programs that sum over devices, all
    under way at once, block each other on CPUs.
    """
    value = digest(array)
    whole = isinstance(array, jax.Array) and array.sharding.is_fully_replicated
    return value if whole else jax.block_until_ready(value)


def difference(saved: Record, found: Record) -> str:
    """The first difference in words, or "" without one; digests only where both have them."""
    for name in sorted(saved.keys() | found.keys()):
        if name not in saved or name not in found:
            return f"{name} is {'not in it' if name not in saved else 'in it, but not in this run'}"
        for what, before, now in zip(
            ("dtype", "shape", "digest"), saved[name], found[name], strict=False
        ):
            if before != now:
                return f"{name} was saved with {what} {before}, and now has {now}"
    return ""
