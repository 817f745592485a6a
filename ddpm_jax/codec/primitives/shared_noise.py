"""Randomness shared by encoder and decoder, in integers: the same on every machine and in every version.

Threefry-2x32-20 (Salmon et al. 2011) and a table of the normal distribution. jax.random will not do: its
streams have changed between versions of JAX.
"""

import hashlib
from functools import lru_cache

import numpy as np
from jaxtyping import Int16, Int64, UInt32, UInt64
from scipy import special

from ddpm_jax.codec.errors import EnvironmentMismatch

Words = UInt32[np.ndarray, " n"]
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
NORMAL_BITS = 12  # after the binary point
NORMAL_SHA256 = "1ea009ce409dac97d6bd609266910f809c5fb912f78e16bd89145b08174d6fc5"


def threefry(key: tuple[int, int], first: Words, second: Words) -> tuple[Words, Words]:
    """Returns the two output words of every counter (first, second)."""
    words = [np.uint32(key[0]), np.uint32(key[1]), np.uint32(key[0] ^ key[1] ^ PARITY)]
    a, b = first + words[0], second + words[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            a = a + b
            b = ((b << np.uint32(rotation)) | (b >> np.uint32(32 - rotation))) ^ a
        a = a + words[(group + 1) % 3]
        b = b + words[(group + 2) % 3] + np.uint32(group + 1)
    return a, b


def make_key(*parts: bytes | str | int) -> tuple[int, int]:
    """Derives a key from what its numbers are for, by hashing the parts and their lengths."""
    hashed = hashlib.sha256(b"djx1")
    for part in parts:
        content = str(part).encode() if not isinstance(part, bytes) else part
        hashed.update(len(content).to_bytes(2, "little") + content)
    digest = hashed.digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def words(key: tuple[int, int], count: int) -> Words:
    """Returns 'count' words of 32 random bits."""
    counters = np.arange((count + 1) // 2, dtype=np.uint32)
    return np.stack(threefry(key, counters, np.zeros_like(counters)), axis=-1).reshape(-1)[:count]


@lru_cache(maxsize=1)
def normal_table() -> Int16[np.ndarray, "65536"]:
    """The midpoint, in probability, of each of 65536 equally likely slices of the standard normal, Q12."""
    quantiles = special.ndtri((np.arange(65536) + 0.5) / 65536)
    table = np.round(quantiles * 2**NORMAL_BITS).astype("<i2")
    check_table(table, NORMAL_SHA256, "the normal table")
    return table


def check_table(table: np.ndarray, sha256: str, name: str) -> None:
    """Raises EnvironmentMismatch for a table that differs: with it every file would decode to something else."""
    if hashlib.sha256(table.tobytes()).hexdigest() != sha256:
        raise EnvironmentMismatch(
            f"{name}, computed on this machine, is not the one that the file format defines;"
            " install another scipy"
        )


def normal(key: tuple[int, int], count: int) -> Int16[np.ndarray, " n"]:
    """Returns standard normal numbers, Q12, two from each word."""
    return normal_table()[words(key, (count + 1) // 2).view("<u2")[:count]]


def uniform_below(key: tuple[int, int], limit: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Returns an integer in 0..limit - 1 for each limit; nearly uniform, limits being far below 2^32."""
    return (words(key, len(limit)).astype(np.int64) * limit) >> 32


def permutation(key: tuple[int, int], count: int) -> Int64[np.ndarray, " n"]:
    """Returns a random order: the stable sort of 64-bit words."""
    pairs: UInt64[np.ndarray, " n"] = words(key, 2 * count).astype("<u4").view("<u8")
    return pairs.argsort(kind="stable")


def signs(key: tuple[int, int], count: int) -> Int64[np.ndarray, " n"]:
    return 1 - 2 * (words(key, count) >> np.uint32(31)).astype(np.int64)
