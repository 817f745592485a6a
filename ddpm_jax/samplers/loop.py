"""The one compiled loop that runs a sampler from x_T to x_0: Algorithm 2 and its kin."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from ddpm_jax.diffusion import Images, Schedule
from ddpm_jax.parameterization import Denoiser
from ddpm_jax.samplers.spacing import Path
from ddpm_jax.samplers.steps import Carry, Sampler

Params = Any
State = tuple[Images, Carry]  # x_t, and what the sampler remembers
STREAM = 2**31  # no step of training: noise of one seed is not shared with it


def image_keys(key: Key[Array, ""], numbers: Int[Array, " b"]) -> Key[Array, " b"]:
    """One key an image, from its number alone: image i is the same in whatever batch it is made."""
    key = jax.random.fold_in(key, STREAM)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(numbers)


def draw(keys: Key[Array, " b"], t: Int[Array, ""], shape: tuple[int, ...]) -> Images:
    """Every image's standard normal noise for the step that leaves t; T + 1 is for x_T itself.

    Above it are later visits to a time: see 'number_of_noise'.
    """
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, t), shape))(keys)


def start(
    sched: Schedule, sampler: Sampler, keys: Key[Array, " b"], shape: tuple[int, ...]
) -> State:
    """x_T ~ N(0, 1), and what the sampler remembers of it."""
    x_T = draw(keys, jnp.asarray(sched.T + 1), shape)
    return x_T, sampler.init(x_T)


def number_of_noise(sched: Schedule, times: Path, i: Int[Array, ""]) -> Int[Array, ""]:
    """Which noise step i of a path takes: its t, and another for every visit to t before."""
    visits = jnp.sum((times == times[i]) & (jnp.arange(len(times)) < i))
    return (times[i] + visits * (sched.T + 2)).astype(times.dtype)


def advance(
    sched: Schedule,
    sampler: Sampler,
    denoiser: Denoiser,
    keys: Key[Array, " b"],
    times: Path,
    state: State,
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> State:
    """Takes the steps first..last - 1 of the path.

    'first' and 'last' may be traced, so one compilation serves every segment of it.
    """

    def body(i, state):
        x_t, carry = state
        t, s = (jnp.full(x_t.shape[:1], times[j]) for j in (i, i + 1))
        noise = draw(keys, number_of_noise(sched, times, i), x_t.shape[1:])
        return sampler.step(sched, denoiser, x_t, t, s, noise, carry)

    return jax.lax.fori_loop(first, last, body, state)


class Program(NamedTuple):
    """A whole sampling run, compiled once, in segments between which it can be stopped.

    Calling it, (params, keys, tick), gives images in [-1, 1], or near it; 'tick' is told the number
    of steps just taken. The parts of it are for who wants to keep the state between two segments,
    to begin with an x_t of his own ('enter'), or to see x_0-hat on the way ('guess'). 'loop' is what
    'go_on' runs, for who wants to compile it only.
    """

    begin: Callable[[Key[Array, " b"]], State]
    enter: Callable[[Images], State]
    go_on: Callable[[Params, Key[Array, " b"], State, int, int], State]
    guess: Callable[[Params, State, int], Images]
    loop: Callable[[Params, Key[Array, " b"], State, int, int], State]
    times: np.ndarray
    segment: int

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    def __call__(self, params: Params, keys: Key[Array, " b"], tick=lambda steps: None) -> Images:
        state = self.begin(keys)
        for first, last in self.spans():
            state = self.go_on(params, keys, state, first, last)
            tick(last - first)
        return state[0]

    def spans(self, done: int = 0, until: int | None = None) -> Iterator[tuple[int, int]]:
        """The segments from one place on the path to another: first step, and the one after the last."""
        until = self.steps if until is None else until
        for first in range(done, until, self.segment):
            yield first, min(first + self.segment, until)

    def place(self, t: float | int) -> int:
        """Where on the path the time nearest to t is; 0 is T, and 'steps' is data."""
        return int(np.abs(self.times - t).argmin())


def program(
    sched: Schedule,
    sampler: Sampler,
    denoiser: Callable[[Params], Denoiser],
    times: np.ndarray,
    shape: tuple[int, ...],
    segment: int = 20,
) -> Program:
    """The loop over 'times' for images of one shape, of whatever parameters it is called with."""

    def segment_of(params, keys, state, first, last):
        path = jnp.asarray(times)
        return advance(sched, sampler, denoiser(params), keys, path, state, first, last)

    def guess(params, state, i):
        t = jnp.full(state[0].shape[:1], jnp.asarray(times)[i])
        return denoiser(params)(state[0], t).x_0

    loop = jax.jit(segment_of, donate_argnums=2)
    look = jax.jit(guess)
    return Program(
        begin=jax.jit(lambda keys: start(sched, sampler, keys, shape)),
        # A copy, or 'go_on' would take the caller's own array for its next state.
        enter=jax.jit(lambda x_t: (jnp.copy(x_t), sampler.init(x_t))),
        go_on=lambda *args: jax.block_until_ready(loop(*args)),
        guess=lambda params, state, i: look(params, state, i) if times[i] else state[0],
        loop=loop,
        times=times,
        segment=segment,
    )
