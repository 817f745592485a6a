"""A program's parts put together by hand, in as few words as can be: what the wiring of a program is held against.

The parts themselves, the sampler, the bound and the schedule, are proved elsewhere. Here is said which weights,
labels, times, seeds and images go into them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from support import loud

from ddpm_jax import parameterization
from ddpm_jax.datasets import pixels
from ddpm_jax.networks.conditioning import Given
from ddpm_jax.parameterization import Denoised
from ddpm_jax.run import state
from ddpm_jax.samplers import loop, steps


def average(run):
    """The loud run's EMA, as it was drawn and not as a checkpoint gives it back."""
    return loud.weights(state.abstract(run).params, loud.EMA)


def output(run, params, x_t, t, labels=None):
    """The network in evaluation, fed t - 1."""
    given = Given(labels=None if labels is None else jnp.asarray(labels))
    return run.model.network.apply({"params": params}, x_t, t - 1, False, given)


def denoiser(run, params, labels=None, w=0.0):
    """Of a network that outputs eps: x_0-hat, guided without a classifier by weight w, then clipped."""
    sched = run.model.sched

    def x_0(x_t, t, labels):
        return parameterization.eps.read(sched, output(run, params, x_t, t, labels), x_t, t).x_0

    def denoise(x_t, t):
        guess = x_0(x_t, t, labels)
        if w:
            none = np.full(len(labels), run.model.network.classes)
            guess = (1.0 + w) * guess - w * x_0(x_t, t, none)
        return Denoised(jnp.clip(guess, -1.0, 1.0))

    return denoise


def samples(run, denoise, numbers, seed):
    """The paper's chain of all T steps, as uint8: 'denoise' is called with x_t and t."""
    sampler = steps.lift(steps.ancestral(parameterization.fixed_large))
    times = np.arange(run.model.sched.T, -1, -1)
    program = loop.program(run.model.sched, sampler, lambda _: denoise, times, run.model.shape)
    return pixels.quantize(program((), keys(seed, numbers)), run.model.levels)


def keys(seed, numbers):
    """The key of each image, by its number."""
    return loop.image_keys(jax.random.key(seed), jnp.asarray(numbers))


def images(run, split, count):
    """The first images of a split, in -1..1, not mirrored; and their labels, where the network takes any."""
    source = run.data.open(split)
    rows = np.arange(count)
    x_0 = pixels.normalize(jnp.asarray(source.read(rows)), run.model.levels)
    return x_0, (source.labels(rows) if run.model.network.classes else None)
