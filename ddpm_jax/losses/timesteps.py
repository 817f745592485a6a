"""How training draws t, and what it remembers of the losses it saw: a value that a config names.

What is remembered is part of the train state: it is in checkpoints, and the same on every host.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ddpm_jax import sde
from ddpm_jax.diffusion import PerImage, Times

Memory = Any
HISTORY = 10  # losses kept of every t, IDDPM's number

UNIFORM = 0.001  # the part of the draws that is uniform, so that no weight is above 1000


class Timesteps(NamedTuple):
    """'draw' gives each image a t and the weight that keeps the mean loss over t unbiased."""

    init: Callable[[], Memory]
    draw: Callable[[Memory, Key[Array, ""], tuple[int, ...]], tuple[Times, PerImage]]
    learn: Callable[[Memory, Times, PerImage], Memory]


def forgetful(memory: Memory, t: Times, losses: PerImage) -> Memory:
    return memory


def uniform(T: int) -> Timesteps:
    """t in 1..T, all alike: Algorithm 1."""

    def draw(memory, key, shape):
        return jax.random.randint(key, shape, 1, T + 1), jnp.ones(shape)

    return Timesteps(lambda: (), draw, forgetful)


def continuous(T: int) -> Timesteps:
    """t anywhere between T_MIN and T, all alike: Song et al. 2021 (arXiv:2011.13456), Eq. 7."""

    def draw(memory, key, shape):
        return jax.random.uniform(key, shape, minval=sde.T_MIN, maxval=T), jnp.ones(shape)

    return Timesteps(lambda: (), draw, forgetful)


class History(NamedTuple):
    """The last losses seen at each t; index 0 is t = 1."""

    losses: Float[Array, "T h"]
    seen: Int[Array, " T"]


def importance(T: int) -> Timesteps:
    """t in proportion to the root mean square of its last 10 losses: Nichol and Dhariwal 2021, Eq. 18.

    Until every t has been seen 10 times it is uniform, weights and all.
    """

    def draw(history, key, shape):
        p = probabilities(history)
        place = jax.random.choice(key, T, shape, p=p)
        return place + 1, 1.0 / (T * p[place])

    def init():
        return History(jnp.zeros((T, HISTORY)), jnp.zeros(T, jnp.int32))

    return Timesteps(init, draw, remembered)


def probabilities(history: History) -> Float[Array, " T"]:
    T = len(history.seen)
    size = jnp.sqrt(jnp.mean(jnp.square(history.losses), axis=1))
    # Of losses that are all zero nothing is to be learnt.
    warm = jnp.all(history.seen >= HISTORY) & (size.sum() > 0.0)
    p = size / jnp.where(warm, size.sum(), 1.0)
    return jnp.where(warm, (1.0 - UNIFORM) * p + UNIFORM / T, 1.0 / T)


def remembered(history: History, t: Int[Array, " b"], losses: PerImage) -> History:
    """The history with one more batch in it, image by image; each t's oldest losses are overwritten."""
    place = t - 1
    same = place[:, None] == place[None, :]
    earlier = jnp.tril(same, -1).sum(axis=1)  # images before this one that have its t
    later = jnp.triu(same, 1).sum(axis=1)
    slot = (history.seen[place] + earlier) % HISTORY
    # More than 10 of one t in a batch: only the last of them are written, so that no two fight for a slot.
    place_or_none = jnp.where(later < HISTORY, place, len(history.seen))
    kept = history.losses.at[place_or_none, slot].set(losses, mode="drop")
    return History(kept, history.seen.at[place].add(1))
