"""What Trained's methods run: any sampler, from any x_t, with labels and guidance, observed on its way."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from ddpm_jax import diffusion, parameterization
from ddpm_jax.api import labels as image_labels
from ddpm_jax.api.labels import Label
from ddpm_jax.config import build, guide, validate
from ddpm_jax.distributed import mesh
from ddpm_jax.parameterization import Denoiser
from ddpm_jax.run import model as models
from ddpm_jax.run import run as runs
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Chain, Run
from ddpm_jax.samplers import loop, ode_solvers, own, spacing
from ddpm_jax.samplers.steps import Sampler, Solver, ddim, lift

Floats = Float32[np.ndarray, "n h w c"]
Own = Any  # a user's Step, Sampler, plan function or Solver; or None
Guidance = Callable[[Denoiser], Denoiser]
Callback = Callable[[int, Floats], object]  # called with t and x_t after each step
Observe = Callable[[loop.Program, Any, loop.State, int], Any]


class Frames(NamedTuple):
    """The reverse process of n images, seen at f times from t down to 0."""

    t: Int[np.ndarray, " f"]
    x_t: Float32[np.ndarray, "f n h w c"]
    x_0: Float32[np.ndarray, "f n h w c"]  # x_0-hat(x_t), in [-1, 1]


class Setting(NamedTuple):
    """A sampler as compiled for a run; 'run' has the fields that it was configured with."""

    run: Run
    chain: Chain
    program: loop.Program


def configure(
    run: Run,
    fields: Mapping[str, Any],
    sampler: Own = None,
    guidance: Guidance | None = None,
) -> Setting:
    """Returns the sampler that a run's config names, with some fields of its sample section replaced.

    'sampler' is the user's own instead, of any form that samplers/own.py takes; 'guidance' is applied after the config's. Raises ValueError
    for fields that do not fit the model.
    """
    if fields:
        run = build.change(run, {f"sample.{name}": value for name, value in fields.items()})
    run = guide.open_guide(run)
    chain = run.sample.chain
    if sampler is not None:
        chain = own_chain(run, own.as_solver(sampler, "own"))
    program = sampling.make_program(run.model, chain, guide=guidance or (lambda denoise: denoise))
    return Setting(run, chain, program)


def own_chain(run: Run, solver: Solver) -> Chain:
    """Returns the chain of a run with a solver of the user's own, which takes its options from the config."""
    section = run.config["sample"]
    available = section["langevin"] | {
        "variance": run.model.variance,
        "eta": section["eta"],
        "spacing": spacing.SPACINGS[section["spacing"]],
    }
    plan = validate.call("sampler", solver.plan, available, run.model.sched, section["steps"])
    return run.sample.chain._replace(
        sampler=plan.sampler,
        times=plan.times,
        classifier_guidance=solver.classifier_guidance,
        takes_labels=solver.takes_labels,
    )


def unconditional(run: Run, params: Any) -> Denoiser:
    """Returns the denoiser without a label. Raises ValueError for a network that needs one."""
    classes = run.model.network.classes
    if classes and not run.train.label_dropout:
        raise ValueError("this network needs a label for each image; use denoiser_of(label)")
    return models.denoiser(run.model, params, jnp.array([classes]) if classes else None)


def encoder(run: Run, steps: int) -> Setting:
    """Returns DDIM's ODE from images to x_T. Raises ValueError for a network that predicts a mean."""
    return ode(run, ode_solvers.inversion(), spacing.linear(run.model.sched.T, steps)[::-1].copy())


def decoder(run: Run, steps: int) -> Setting:
    """Returns DDIM's ODE from x_T to images. Raises ValueError for a network that predicts a mean."""
    return ode(run, lift(ddim(0.0)), spacing.linear(run.model.sched.T, steps))


def ode(run: Run, sampler: Sampler, times: Int[np.ndarray, " n"]) -> Setting:
    """Returns a deterministic sampler that does not clip x_0-hat, since a clip has no inverse.

    A network trained with label dropout is evaluated without a label unless one is given.
    """
    if run.model.parameterization is parameterization.x_prev:
        raise ValueError(
            "latents need x_0-hat for large steps, but diffusion.output=x_prev predicts the mean of"
            " single steps only"
        )
    label = run.model.network.classes if run.train.label_dropout else runs.ALL
    chain = Chain(sampler=sampler, times=times, name="ode", label=label)
    return Setting(run, chain, sampling.make_program(run.model, chain, clip=False))


def walk(
    setting: Setting,
    params: Any,
    marks: Sequence[int],
    *,
    count: int,
    seed: int,
    label: Label | None = None,
    x_t: Floats | None = None,
    callback: Callback | None = None,
    observe: Observe | None = None,
) -> Float32[np.ndarray, "m n ..."]:
    """Runs images from marks[0] to marks[-1], places on the path, and observes them at each mark.

    They start from 'x_t', or without it from x_T of their own noise. Without 'observe' what is seen is x_t.
    """
    run, chain, program = setting
    check_count(count, seed)
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
        look = observe or observe_x_t
        snapshots = [look(program, inputs, state, marks[0])]
        for here, there in pairwise(marks):
            for first, last in segments(program, here, there, callback):
                state = program.advance(inputs, keys, state, first, last)
                if callback:
                    callback(int(program.times[last]), mesh.fetch(state[0])[:kept])
            snapshots.append(look(program, inputs, state, there))
        seen.append(np.stack(snapshots)[:, :kept])
    return np.concatenate(seen, axis=1)


def batches(run: Run, count: int) -> Iterator[tuple[Int[np.ndarray, " b"], int]]:
    """Splits images 0..count - 1 into batches of one size; yields their numbers, and how many count.

    A batch is at most sample.batch_size. The last one is padded by repeating its last image.
    """
    devices = run.mesh.size
    size = min(run.sample.batch_size, -(-count // devices) * devices)
    for first in range(0, count, size):
        yield np.minimum(np.arange(first, first + size), count - 1), min(size, count - first)


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
    if frames < 1:
        raise ValueError(f"frames is {frames}; it must be at least 1")
    last = setting.program.steps
    spaced = np.linspace(place, last, min(frames, last - place + 1)).round().astype(int)
    return (place, last) if frames == 1 else tuple(spaced.tolist())


def diffuse(run: Run, x_0: Floats, t: int, seed: int) -> Floats:
    """Draws x_t ~ q(x_t | x_0), with the noise that x_T of the same seed and image is made of. Eq. 4."""
    if not 1 <= t <= run.model.sched.T:
        raise ValueError(f"t is {t}; it must lie between 1 and T = {run.model.sched.T}")
    check_count(len(x_0), seed)
    keys = loop.image_keys(jax.random.key(seed), jnp.arange(len(x_0)))
    eps = loop.draw_noise(keys, jnp.asarray(run.model.sched.T + 1), run.model.shape)
    times = jnp.full(len(x_0), t)
    return np.asarray(diffusion.q_sample(run.model.sched, jnp.asarray(x_0), times, eps))


def check_count(count: int, seed: int) -> None:
    """Raises ValueError for a number of images below 1, or an invalid seed."""
    validate.check_type("count", count, int)
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    validate.check_seed("seed", seed)
