"""The one compiled loop that runs a sampler from x_T to x_0: Algorithm 2, for any sampler."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from ddpm_jax.diffusion import Images, Schedule
from ddpm_jax.parameterization import Denoiser
from ddpm_jax.samplers.steps import Carry, Sampler

Params = Any
State = tuple[Images, Carry]  # x_t and the sampler's carry
# Beyond any training step, so that sampling and training with one seed share no noise.
STREAM = 2**31


def image_keys(key: Key[Array, ""], numbers: Int[Array, " b"]) -> Key[Array, " b"]:
    """Returns one key per image number, so that image i does not depend on the batch it is in."""
    key = jax.random.fold_in(key, STREAM)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(numbers)


def draw_noise(keys: Key[Array, " b"], number: Int[Array, ""], shape: tuple[int, ...]) -> Images:
    """Draws each image's standard normal noise of this number.

    The step that leaves t uses number t, and x_T itself uses T + 1. Higher numbers are for repeated visits
    to a time: see noise_number.
    """
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), shape))(keys)


def noise_number(sched: Schedule, times: Int[Array, " n"], i: Int[Array, ""]) -> Int[Array, ""]:
    """The number of step i's noise: its t, plus T + 2 for every earlier visit to t."""
    visits = jnp.sum((times == times[i]) & (jnp.arange(len(times)) < i))
    return (times[i] + visits * (sched.T + 2)).astype(times.dtype)


def initial_state(
    sched: Schedule, sampler: Sampler, keys: Key[Array, " b"], shape: tuple[int, ...]
) -> State:
    """Draws x_T ~ N(0, 1) and initialises the sampler's carry."""
    x_T = draw_noise(keys, jnp.asarray(sched.T + 1), shape)
    return x_T, sampler.init(x_T)


def advance(
    sched: Schedule,
    sampler: Sampler,
    denoiser: Denoiser,
    keys: Key[Array, " b"],
    times: Int[Array, " n"],
    state: State,
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> State:
    """Takes steps first..last - 1 of the path.

    'first' and 'last' may be traced, so that one compilation serves every segment.
    """

    def body(i, state):
        x_t, carry = state
        t, s = (jnp.full(x_t.shape[:1], times[j]) for j in (i, i + 1))
        noise = draw_noise(keys, noise_number(sched, times, i), x_t.shape[1:])
        return sampler.step(sched, denoiser, x_t, t, s, noise, carry)

    return jax.lax.fori_loop(first, last, body, state)


class Program(NamedTuple):
    """A sampling run, compiled once and run in segments, between which it can be stopped.

    Calling it with (params, keys, tick) returns images in about [-1, 1]; 'tick' receives the number
    of steps that each segment took. Its parts serve callers that keep the state between segments, start
    from an x_t of their own or want x_0-hat along the way.
    """

    begin: Callable[[Key[Array, " b"]], State]  # at x_T
    begin_at: Callable[[Images], State]  # at a given x_t
    advance: Callable[[Params, Key[Array, " b"], State, int, int], State]  # donates its state
    predict_x_0: Callable[[Params, State, int], Images]
    compiled: jax.stages.Wrapped  # the jitted function in 'advance', for lowering
    times: np.ndarray
    segment: int  # steps

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    def __call__(
        self,
        params: Params,
        keys: Key[Array, " b"],
        tick: Callable[[int], None] = lambda steps: None,
    ) -> Images:
        state = self.begin(keys)
        for first, last in self.segments():
            state = self.advance(params, keys, state, first, last)
            tick(last - first)
        return state[0]

    def segments(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """Splits steps start..stop - 1 of the path, by default all, into (first, last + 1) pairs."""
        stop = self.steps if stop is None else stop
        for first in range(start, stop, self.segment):
            yield first, min(first + self.segment, stop)

    def index_at(self, t: float | int) -> int:
        """Returns the path index of the time nearest to t; if the path descends, index 0 is T."""
        return int(np.abs(self.times - t).argmin())


def program(
    sched: Schedule,
    sampler: Sampler,
    denoiser: Callable[[Params], Denoiser],
    times: np.ndarray,
    shape: tuple[int, ...],
    segment: int = 20,
) -> Program:
    """Returns the loop over 'times' for images of one shape; it takes the parameters as an argument."""

    def advance_path(params, keys, state, first, last):
        path = jnp.asarray(times)
        return advance(sched, sampler, denoiser(params), keys, path, state, first, last)

    def predict_x_0(params, state, i):
        t = jnp.full(state[0].shape[:1], jnp.asarray(times)[i])
        return denoiser(params)(state[0], t).x_0

    compiled = jax.jit(advance_path, donate_argnums=2)
    compiled_x_0 = jax.jit(predict_x_0)
    return Program(
        begin=jax.jit(lambda keys: initial_state(sched, sampler, keys, shape)),
        # A copy, as 'advance' donates its state: the caller's own array would be gone.
        begin_at=jax.jit(lambda x_t: (jnp.copy(x_t), sampler.init(x_t))),
        advance=lambda *args: jax.block_until_ready(compiled(*args)),
        predict_x_0=lambda params, state, i: (
            compiled_x_0(params, state, i) if times[i] else state[0]
        ),
        compiled=compiled,
        times=times,
        segment=segment,
    )
