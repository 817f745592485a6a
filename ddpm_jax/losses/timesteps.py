"""How training draws t: uniformly, continuously, or by importance from the losses that it has seen.

The memory of losses is part of the train state: checkpoints hold it, and it is the same on every host.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ddpm_jax import sde
from ddpm_jax.diffusion import PerImage, Times

Memory = Any  # a pytree of arrays: () or a History
HISTORY = 10  # losses kept for each t, IDDPM's number
UNIFORM = 0.001  # the share of uniform draws, so that no weight exceeds 1000


class Timesteps(NamedTuple):
    """One value of a config's 'diffusion.timesteps'.

    'draw' returns each image's t and the weight that keeps the mean loss over t unbiased; 'learn' returns
    the memory after one more batch of losses.
    """

    init: Callable[[], Memory]
    draw: Callable[[Memory, Key[Array, ""], tuple[int, ...]], tuple[Times, PerImage]]
    learn: Callable[[Memory, Times, PerImage], Memory]


def ignore_losses(memory: Memory, t: Times, losses: PerImage) -> Memory:
    return memory


def uniform(T: int) -> Timesteps:
    """Draws t uniformly from 1..T: Algorithm 1. Every weight is 1."""

    def draw(memory, key, shape):
        return jax.random.randint(key, shape, 1, T + 1), jnp.ones(shape)

    return Timesteps(init=lambda: (), draw=draw, learn=ignore_losses)


def continuous(T: int) -> Timesteps:
    """Draws t uniformly from the interval [T_MIN, T]: Song et al. 2021 (arXiv:2011.13456), Eq. 7."""

    def draw(memory, key, shape):
        return jax.random.uniform(key, shape, minval=sde.T_MIN, maxval=T), jnp.ones(shape)

    return Timesteps(init=lambda: (), draw=draw, learn=ignore_losses)


class History(NamedTuple):
    """The last losses at each t; index 0 is t = 1."""

    losses: Float[Array, "T h"]
    seen: Int[Array, " T"]  # how many losses there have been


def importance(T: int) -> Timesteps:
    """Draws t in proportion to the root mean square of its last 10 losses: Nichol and Dhariwal 2021, Eq. 18.

    Draws uniformly, with weights of 1, until every t has 10 losses.
    """

    def draw(history, key, shape):
        p = probabilities(history)
        index = jax.random.choice(key, T, shape, p=p)
        return index + 1, 1.0 / (T * p[index])

    def init():
        return History(jnp.zeros((T, HISTORY)), jnp.zeros(T, jnp.int32))

    return Timesteps(init=init, draw=draw, learn=record_losses)


def probabilities(history: History) -> Float[Array, " T"]:
    """Returns the probability of drawing each t = 1..T."""
    T = len(history.seen)
    rms = jnp.sqrt(jnp.mean(jnp.square(history.losses), axis=1))
    # Losses that are all zero have no proportions; drawing stays uniform.
    is_warm = jnp.all(history.seen >= HISTORY) & (rms.sum() > 0.0)
    p = rms / jnp.where(is_warm, rms.sum(), 1.0)
    return jnp.where(is_warm, (1.0 - UNIFORM) * p + UNIFORM / T, 1.0 / T)


def record_losses(history: History, t: Int[Array, " b"], losses: PerImage) -> History:
    """Returns the history after one more batch, as if its images came one by one.

    Each loss overwrites the oldest of its t.
    """
    index = t - 1
    same_t = index[:, None] == index[None, :]
    earlier = jnp.tril(same_t, -1).sum(axis=1)  # images of the same t before this one
    later = jnp.triu(same_t, 1).sum(axis=1)
    slot = (history.seen[index] + earlier) % HISTORY
    # Only the last 10 of one t in a batch are written, as two writes to one slot have no defined order.
    index_or_none = jnp.where(later < HISTORY, index, len(history.seen))
    new_losses = history.losses.at[index_or_none, slot].set(losses, mode="drop")
    return History(losses=new_losses, seen=history.seen.at[index].add(1))
