"""Walks along the reverse process, begun anywhere on it and looked at on the way.

A figure says which images go where and with whose noise; here they are put in batches, spread over
the mesh, and kept batch by batch, so that an interrupted call loses one.
"""

from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float, Int, UInt8

from ddpm_jax import diffusion
from ddpm_jax.datasets import batches, pixels
from ddpm_jax.distributed import mesh
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, resumable, signals
from ddpm_jax.runtime.resumable import Arrays
from ddpm_jax.samplers import loop


def shown(images: Float[np.ndarray, "*n h w c"], levels: int) -> UInt8[np.ndarray, "*n h w c"]:
    """-1..1, or beyond as x_t is, to the bytes that a file of samples has."""
    return pixels.quantize(images.reshape(-1, *images.shape[-3:]), levels).reshape(images.shape)


BATCH = 16  # images at a time: one compilation serves every figure, and none is filled up by much
Floats = Float[np.ndarray, "n h w c"]
Seen = Float[np.ndarray, "m n h w c"]
See = Callable[[loop.Program, Any, loop.State, int], Any]


class Chains(NamedTuple):
    """What the figures are made from: a checkpoint's EMA weights, and the one compiled loop."""

    run: Run
    step: int
    params: Any
    program: loop.Program
    kept: epath.Path  # a folder for finished batches


class Walk(NamedTuple):
    """Images that go from marks[0] to marks[-1], places on the path, and are seen at each mark."""

    marks: tuple[int, ...]
    numbers: Int[np.ndarray, " n"]  # whose noise each image takes; sharing a number is sharing it
    x_t: Floats | None = None  # at marks[0]; None is x_T of these numbers


def x_t_itself(program: loop.Program, params: Any, state: loop.State, place: int):
    return state[0]


def x_0_guess(program: loop.Program, params: Any, state: loop.State, place: int):
    return program.predict_x_0(params, state, place)


def go(
    trained: Chains, label: str, walks: Sequence[Walk], see: See = x_t_itself, size: int = 0
) -> list[Seen]:
    """What 'see' shows of every walk at its marks. Raises Stopped if asked to.

    'label' names the walks among those of all figures: finished batches, of 'size' images where a program
    is of one figure alone, are kept under it.
    """
    size = size or batch_size(trained.run)
    batches = [in_batches(walk, size) for walk in walks]
    jobs = [batch for of_walk in batches for batch in of_walk]
    behind = np.cumsum([0, *(job.marks[-1] - job.marks[0] for job in jobs)]).tolist()

    def make(number: int) -> Arrays:
        def tick(done: int) -> None:
            bar.update(behind[number] + done - bar.n)  # batches that were there are leapt over
            signals.check(f"in {label}, batch {number + 1} of {len(jobs)}")

        return {"seen": followed(trained, jobs[number], see, tick)}

    with console.progress(label, behind[-1]) as bar:
        made = iter(
            resumable.collect(trained.kept / f"{label}-{size}", len(jobs), make, lambda: None)
        )
    found = []
    for walk, of_walk in zip(walks, batches, strict=True):
        seen = [part["seen"] for part in islice(made, len(of_walk))]
        found.append(np.concatenate(seen, axis=1)[:, : len(walk.numbers)])
    return found


def followed(trained: Chains, batch: Walk, see: See, tick: Callable[[int], None]) -> Seen:
    """One batch on its way; 'tick' is told the steps it has taken."""
    run, program = trained.run, trained.program
    params = sampling.program_inputs(run, trained.params, run.sample.chain, batch.numbers)
    keys = sampling.image_keys(run, run.sample.seed, batch.numbers)
    if batch.x_t is None:
        state = program.begin(keys)
    else:
        local = batch.x_t[mesh.local_rows(len(batch.numbers))]
        state = program.begin_at(mesh.put(run.mesh, local))
    start = batch.marks[0]
    seen = [mesh.fetch(see(program, params, state, start))]
    for here, there in pairwise(batch.marks):
        for first, last in program.segments(here, there):
            tick(first - start)
            state = program.advance(params, keys, state, first, last)
        seen.append(mesh.fetch(see(program, params, state, there)))
    return np.stack(seen)


def batch_size(run: Run) -> int:
    """At most sample.batch_size, and shared out evenly among the devices, as that is."""
    return min(run.sample.batch_size, -(-BATCH // run.mesh.size) * run.mesh.size)


def in_batches(walk: Walk, size: int) -> list[Walk]:
    """Walks of 'size' images; the last one is filled up by repeating its last image."""
    count = len(walk.numbers)
    filled = [np.minimum(np.arange(i, i + size), count - 1) for i in range(0, count, size)]
    x_t = walk.x_t
    return [
        Walk(walk.marks, walk.numbers[rows], None if x_t is None else x_t[rows]) for rows in filled
    ]


def real_images(trained: Chains, split: str, count: int) -> tuple[list[int], Floats]:
    """Images of a split, in -1..1, drawn by sample.seed, and their places in it."""
    run = trained.run
    source = run.data.open(split)
    chosen = batches.indices_of(source.count, run.sample.seed, count, 0)
    images = jnp.asarray(source.read(chosen))
    return chosen.tolist(), np.asarray(pixels.normalize(images, run.model.levels))


def noised(trained: Chains, x_0: Floats, times: Sequence[int]) -> list[Floats]:
    """x_t at each of some times, image i with the noise that is x_T of number i. Eq. 4."""
    run = trained.run
    sched = run.model.sched

    @jax.jit
    def diffused(keys, x_0, t):
        eps = loop.draw_noise(keys, jnp.asarray(sched.T + 1), x_0.shape[1:])
        return diffusion.q_sample(sched, x_0, jnp.full(len(x_0), t), eps)

    # The same on every process, and few: no need of the mesh.
    keys = loop.image_keys(jax.random.key(run.sample.seed), jnp.arange(len(x_0)))
    return [np.asarray(diffused(keys, x_0, t)) for t in times]


def rmse(one: Float[np.ndarray, "*#n h w c"], other: Float[np.ndarray, "*#n h w c"]):
    """Per image, on 0..255 as in the paper's Table 4."""
    difference = np.clip(one, -1.0, 1.0) - np.clip(other, -1.0, 1.0)
    return 127.5 * np.sqrt(np.mean(np.square(difference, dtype=np.float64), axis=(-3, -2, -1)))
