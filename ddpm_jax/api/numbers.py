"""Numbers that come from a user: Python's, numpy's or jax's."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm_jax.config import validate
from ddpm_jax.parameterization import Denoised, Denoiser


def check_count(count: Any, seed: Any) -> tuple[int, int]:
    """Returns both as Python's ints. Raises ValueError for a count below 1, or an invalid seed."""
    number = whole("count", count)
    if number < 1:
        raise ValueError(f"count is {number}; it must be at least 1")
    validate.check_seed("seed", whole("seed", seed))
    return number, whole("seed", seed)


def whole(name: str, value: Any) -> int:
    """Returns Python's int of a whole number, such as numpy's. Raises ValueError for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; it must be a whole number") from None


def plain(value: Any) -> Any:
    """Returns a config field's value without numpy's or jax's type, as the config is written as JSON."""
    return value.item() if isinstance(value, np.generic | jax.Array) else value


def take_numbers(denoiser: Denoiser) -> Callable[[Any, Any], Denoised]:
    """Returns a denoiser that also takes numpy's arrays, and one t for all images."""

    def denoise(x_t: Any, t: Any) -> Denoised:
        x_t = jnp.asarray(x_t)
        return denoiser(x_t, jnp.broadcast_to(jnp.asarray(t), len(x_t)))

    return denoise
