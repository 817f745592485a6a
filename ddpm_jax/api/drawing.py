"""What Trained's methods run: any sampler, from any x_t, with labels and guidance, observed on its way."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, Key

from ddpm_jax import diffusion
from ddpm_jax.api import labels as image_labels
from ddpm_jax.api import numbers
from ddpm_jax.api.labels import Label
from ddpm_jax.api.settings import Setting
from ddpm_jax.distributed import mesh
from ddpm_jax.parameterization import Denoised
from ddpm_jax.run import model as models
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run
from ddpm_jax.samplers import loop

Floats = Float32[np.ndarray, "n h w c"]
Callback = Callable[[int, Floats], object]  # called with t and x_t after each step
Observe = Callable[[loop.Program, Any, loop.State, int], Any]


class Frames(NamedTuple):
    """The reverse process of n images, seen at f times from t down to 0."""

    t: Int[np.ndarray, " f"]
    x_t: Float32[np.ndarray, "f n h w c"]
    x_0: Float32[np.ndarray, "f n h w c"]  # x_0-hat(x_t), in [-1, 1]


def unconditional(run: Run, params: Any) -> Callable[[Any, Any], Denoised]:
    """Returns the denoiser without a label. Raises ValueError for a network that needs one."""
    classes = run.model.network.classes
    if classes and not run.train.label_dropout:
        raise ValueError("this network needs a label for each image; use denoiser_of(label)")
    return numbers.take_numbers(
        models.denoiser(run.model, params, jnp.array([classes]) if classes else None)
    )


def walk(
    setting: Setting,
    params: Any,
    marks: Sequence[int],
    *,
    count: Any,
    seed: Any,
    label: Label | None = None,
    x_t: Floats | None = None,
    callback: Callback | None = None,
    observe: Observe | None = None,
) -> Float32[np.ndarray, "m n ..."]:
    """Runs images from marks[0] to marks[-1], places on the path, and observes them at each mark.

    They start from 'x_t', or without it from x_T of their own noise. Without 'observe' what is seen is x_t.
    """
    run, chain, program = setting
    count, seed = numbers.check_count(count, seed)
    if callback is not None and not callable(callback):
        raise ValueError(f"callback is {callback!r}; it must be a function of t and x_t")
    if x_t is not None and len(x_t) != count:
        raise ValueError(
            f"count is {count}, but there are {len(x_t)} images of noise to start from"
        )
    labels = image_labels.choose(run, chain, label, count)
    seen = []
    for rows, kept in batches(run, count):
        keys = sampling.image_keys(run, seed, rows)
        inputs = params
        if labels is not None:
            inputs = sampling.labelled_inputs(run, params, chain, labels[rows])
        state = program.begin(keys)
        if x_t is not None:
            state = program.begin_at(mesh.put(run.mesh, x_t[rows]))
        tick = callback and trim(callback, kept)
        look = observe or observe_x_t
        snapshots = follow(program, inputs, keys, state, marks, look, tick)
        seen.append(snapshots[:, :kept])
    found = np.concatenate(seen, axis=1)
    if not np.isfinite(found).all():
        raise ValueError("the sampler returned values that are not finite")
    return found


def follow(
    program: loop.Program,
    inputs: Any,
    keys: Key[Array, " b"],
    state: loop.State,
    marks: Sequence[int],
    observe: Observe,
    callback: Callback | None,
) -> Float32[np.ndarray, "m b ..."]:
    """Runs one batch between places on the path, and returns what is observed at each."""
    snapshots = [observe(program, inputs, state, marks[0])]
    for here, there in pairwise(marks):
        for first, last in segments(program, here, there, callback):
            state = program.advance(inputs, keys, state, first, last)
            if callback:
                callback(int(program.times[last]), mesh.fetch(state[0]))
        snapshots.append(observe(program, inputs, state, there))
    return np.stack(snapshots)


def batches(run: Run, count: int) -> Iterator[tuple[Int[np.ndarray, " b"], int]]:
    """Splits images 0..count - 1 into batches of one size; yields their numbers, and how many count.

    A batch is at most sample.batch_size. The last one is padded by repeating its last image.
    """
    devices = run.mesh.size
    size = min(run.sample.batch_size, -(-count // devices) * devices)
    for first in range(0, count, size):
        yield np.minimum(np.arange(first, first + size), count - 1), min(size, count - first)


def trim(callback: Callback, count: int) -> Callback:
    """Returns a callback that is called with the first images of a batch only."""
    return lambda t, x_t: callback(t, x_t[:count])


def segments(
    program: loop.Program, start: int, stop: int, callback: Callback | None
) -> Iterator[tuple[int, int]]:
    """Splits the steps between two places into parts: of one step each if a callback is called after it."""
    if callback is None:
        return program.segments(start, stop)
    return pairwise(range(start, stop + 1))


def observe_x_t(program: loop.Program, inputs: Any, state: loop.State, place: int) -> Any:
    return mesh.fetch(state[0])


def observe_both(program: loop.Program, inputs: Any, state: loop.State, place: int) -> Any:
    """Returns x_t and x_0-hat(x_t), [n, 2, h, w, c]."""
    x_0 = program.predict_x_0(inputs, state, place)
    return np.stack([mesh.fetch(state[0]), mesh.fetch(x_0)], axis=1)


def find_marks(setting: Setting, t: int | None, frames: int) -> tuple[int, ...]:
    """Returns 'frames' places, evenly spaced on the path, from that of time t, by default T, to 0.

    Raises ValueError if the sampler does not visit t.
    """
    times = setting.program.times
    place = 0 if t is None else setting.program.index_at(t)
    if t is not None and times[place] != t:
        near = ", ".join(str(each) for each in times[max(place - 1, 0) : place + 2])
        raise ValueError(f"t is {t}, which this sampler does not visit; near it are {near}")
    last = setting.program.steps
    if place == last:
        raise ValueError("t is 0, where x_t is an image and there is nothing left to denoise")
    count = numbers.whole("frames", frames)
    if count < 2:
        raise ValueError(f"frames is {count}; it must be at least 2: the first and the last")
    spaced = np.linspace(place, last, min(count, last - place + 1)).round().astype(int)
    return tuple(spaced.tolist())


def diffuse(run: Run, x_0: Floats, t: Any, seed: int) -> Floats:
    """Draws x_t ~ q(x_t | x_0), with the noise that x_T of the same seed and image is made of. Eq. 4.

    't' is one time, or one for each image. Raises ValueError for others than 1..T.
    """
    given = np.asarray(t)
    if given.dtype.kind not in "iu" or given.shape not in ((), (len(x_0),)):
        raise ValueError(f"t is {t!r}; it must be a whole number, or one for each image")
    if not ((given >= 1) & (given <= run.model.sched.T)).all():
        raise ValueError(f"t is {t}; it must lie between 1 and T = {run.model.sched.T}")
    _, seed = numbers.check_count(len(x_0), seed)
    keys = loop.image_keys(jax.random.key(seed), jnp.arange(len(x_0)))
    eps = loop.draw_noise(keys, jnp.asarray(run.model.sched.T + 1), run.model.shape)
    times = jnp.broadcast_to(jnp.asarray(given, jnp.int32), len(x_0))
    return np.asarray(diffusion.q_sample(run.model.sched, jnp.asarray(x_0), times, eps))
