"""Walks along the reverse process, begun anywhere on it and looked at on the way.

A figure says which images go where and with whose noise; here they are put in batches, spread over
the mesh, and kept batch by batch, so that an interrupted call loses one.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float, Int

from ddpm_jax import build, data, diffusion, parallel, parts, report, sampling, stopping
from ddpm_jax.build import Run
from ddpm_jax.parts import Arrays

BATCH = 16  # images at a time: one compilation serves every figure, and none is filled up by much
Floats = Float[np.ndarray, "n h w c"]
Seen = Float[np.ndarray, "m n h w c"]
See = Callable[[sampling.Program, Any, sampling.State, int], Any]


class Trained(NamedTuple):
    """What the figures are made from: a checkpoint's EMA weights, and the one compiled loop."""

    run: Run
    step: int
    params: Any
    program: sampling.Program
    kept: epath.Path  # a folder for finished batches


class Walk(NamedTuple):
    """Images that go from marks[0] to marks[-1], places on the path, and are seen at each mark."""

    marks: tuple[int, ...]
    numbers: Int[np.ndarray, " n"]  # whose noise each image takes; sharing a number is sharing it
    x_t: Floats | None = None  # at marks[0]; None is x_T of these numbers


def x_t_itself(program: sampling.Program, params: Any, state: sampling.State, place: int):
    return state[0]


def x_0_guess(program: sampling.Program, params: Any, state: sampling.State, place: int):
    return program.guess(params, state, place)


def go(trained: Trained, label: str, walks: Sequence[Walk], see: See = x_t_itself) -> list[Seen]:
    """What 'see' shows of every walk at its marks. Raises Stopped if asked to.

    'label' names the walks among those of all figures: finished batches are kept under it.
    """
    run, program = trained.run, trained.program
    size = batch_size(run)
    jobs = [(w, rows) for w, walk in enumerate(walks) for rows in batches(walk, size)]
    behind = np.cumsum([0, *(walks[w].marks[-1] - walks[w].marks[0] for w, _ in jobs)])

    def job(number: int) -> Arrays:
        walk, rows = walks[jobs[number][0]], jobs[number][1]
        keys = build.keys_of(run, run.sample.seed, walk.numbers[rows])
        if walk.x_t is None:
            state = program.begin(keys)
        else:
            state = program.enter(parallel.put(run.mesh, walk.x_t[rows[parallel.rows(size)]]))
        seen = [parallel.fetch(see(program, trained.params, state, walk.marks[0]))]
        done = int(behind[number])
        for here, there in pairwise(walk.marks):
            for first, last in program.spans(here, there):
                stopping.check(f"in {label}, batch {number + 1} of {len(jobs)}")
                state = program.go_on(trained.params, keys, state, first, last)
                done += last - first
                bar.update(done - bar.n)  # parts that were there are leapt over
            seen.append(parallel.fetch(see(program, trained.params, state, there)))
        return {"seen": np.stack(seen)}

    with report.progress(label, int(behind[-1])) as bar:
        made = parts.collect(trained.kept / label, len(jobs), job, lambda: None)
    return [
        np.concatenate(
            [part["seen"] for part, (v, _) in zip(made, jobs, strict=True) if v == w], 1
        )[:, : len(walk.numbers)]
        for w, walk in enumerate(walks)
    ]


def batch_size(run: Run) -> int:
    """At most sample.batch_size, and shared out evenly among the devices, as that is."""
    return min(run.sample.batch_size, -(-BATCH // run.mesh.size) * run.mesh.size)


def batches(walk: Walk, size: int) -> list[Int[np.ndarray, " b"]]:
    """The rows of each batch; the last one is filled up by repeating its last image."""
    count = len(walk.numbers)
    firsts = range(0, count, size)
    return [np.minimum(np.arange(first, first + size), count - 1) for first in firsts]


def real_images(trained: Trained, split: str, count: int) -> tuple[list[int], Floats]:
    """Images of a split, in -1..1, drawn by sample.seed, and their places in it."""
    run = trained.run
    source = run.data.open(split)
    chosen = data.indices_of(data.order(source.count, run.sample.seed), count, 0)
    return chosen.tolist(), np.asarray(data.normalize(source.read(chosen), run.model.levels))


def noised(trained: Trained, x_0: Floats, times: Sequence[int]) -> list[Floats]:
    """x_t at each of some times, image i with the noise that is x_T of number i. Eq. 4."""
    run = trained.run
    sched = run.model.sched

    @jax.jit
    def diffused(keys, x_0, t):
        eps = sampling.draw(keys, jnp.asarray(sched.T + 1), x_0.shape[1:])
        return diffusion.q_sample(sched, x_0, jnp.full(len(x_0), t), eps)

    # The same on every process, and few: no need of the mesh.
    keys = sampling.image_keys(jax.random.key(run.sample.seed), jnp.arange(len(x_0)))
    return [np.asarray(diffused(keys, x_0, t)) for t in times]


def rmse(one: Float[np.ndarray, "*n h w c"], other: Float[np.ndarray, "*n h w c"]):
    """Per image, on 0..255 as in the paper's Table 4."""
    difference = np.clip(one, -1.0, 1.0) - np.clip(other, -1.0, 1.0)
    return 127.5 * np.sqrt(np.mean(np.square(difference, dtype=np.float64), axis=(-3, -2, -1)))
