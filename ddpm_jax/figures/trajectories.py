"""Parts of the reverse process, from any x_t to any later one, with x_t or x_0-hat observed on the way.

A figure says which images to run, between which times and with which noise. This file groups them in
batches, spreads each over the mesh and keeps its result, so that an interrupted call loses one batch.
"""

from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float, Float64, Int, UInt8

from ddpm_jax import diffusion
from ddpm_jax.datasets import batches, pixels
from ddpm_jax.diffusion import Images
from ddpm_jax.distributed import mesh
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, resumable, signals
from ddpm_jax.runtime.resumable import Arrays
from ddpm_jax.samplers import loop

BATCH = 16  # small, so that padding costs little; figures with one size share a compilation
Floats = Float[np.ndarray, "n h w c"]
Snapshots = Float[np.ndarray, "m n h w c"]  # one array of images for each mark
Observe = Callable[[loop.Program, loop.Params, loop.State, int], Images]


class TrainedRun(NamedTuple):
    """A run with the EMA weights of a checkpoint and the compiled loop that samples from them."""

    run: Run
    step: int
    params: loop.Params
    program: loop.Program
    kept: epath.Path  # a folder for finished batches


class Walk(NamedTuple):
    """Images to run from marks[0] to marks[-1], which are places on the path, and to observe at each mark."""

    marks: tuple[int, ...]
    numbers: Int[np.ndarray, " n"]  # images with the same number get the same noise
    x_t: Floats | None = None  # at marks[0]; None is x_T of these numbers


def to_bytes(images: Float[np.ndarray, "*n h w c"], levels: int) -> UInt8[np.ndarray, "*n h w c"]:
    """Quantizes images in [-1, 1] as files of samples are; values of x_t beyond that range are clipped."""
    return pixels.quantize(images.reshape(-1, *images.shape[-3:]), levels).reshape(images.shape)


def observe_x_t(
    program: loop.Program, params: loop.Params, state: loop.State, place: int
) -> Images:
    return state[0]


def observe_x_0(
    program: loop.Program, params: loop.Params, state: loop.State, place: int
) -> Images:
    """Returns x_0-hat(x_t)."""
    return program.predict_x_0(params, state, place)


def run_walks(
    trained: TrainedRun,
    label: str,
    walks: Sequence[Walk],
    observe: Observe = observe_x_t,
    size: int = 0,
) -> list[Snapshots]:
    """Returns what 'observe' gives at the marks of each walk. Raises Stopped after a signal.

    Finished batches are kept under 'label', which must be unique among all figures, and 'size', the
    number of images in a batch (0 for that of 'batch_size').
    """
    size = size or batch_size(trained.run)
    jobs_by_walk = [split_batches(walk, size) for walk in walks]
    jobs = [job for walk_jobs in jobs_by_walk for job in walk_jobs]
    steps_before = np.cumsum([0, *(job.marks[-1] - job.marks[0] for job in jobs)]).tolist()

    def make(number: int) -> Arrays:
        def tick(done: int) -> None:
            bar.update(steps_before[number] + done - bar.n)  # the bar also skips the kept batches
            signals.check(f"in {label}, batch {number + 1} of {len(jobs)}")

        return {"seen": run_batch(trained, jobs[number], observe, tick)}

    with console.progress(label, steps_before[-1]) as bar:
        parts = iter(
            resumable.collect(trained.kept / f"{label}-{size}", len(jobs), make, lambda: None)
        )
    results = []
    for walk, walk_jobs in zip(walks, jobs_by_walk, strict=True):
        snapshots = [part["seen"] for part in islice(parts, len(walk_jobs))]
        results.append(np.concatenate(snapshots, axis=1)[:, : len(walk.numbers)])
    return results


def run_batch(
    trained: TrainedRun, batch: Walk, observe: Observe, tick: Callable[[int], None]
) -> Snapshots:
    """Runs one batch; calls 'tick' before each segment with the number of steps taken so far."""
    run, program = trained.run, trained.program
    params = sampling.program_inputs(run, trained.params, run.sample.chain, batch.numbers)
    keys = sampling.image_keys(run, run.sample.seed, batch.numbers)
    if batch.x_t is None:
        state = program.begin(keys)
    else:
        local = batch.x_t[mesh.local_rows(len(batch.numbers))]
        state = program.begin_at(mesh.put(run.mesh, local))
    start = batch.marks[0]
    snapshots = [mesh.fetch(observe(program, params, state, start))]
    for here, there in pairwise(batch.marks):
        for first, last in program.segments(here, there):
            tick(first - start)
            state = program.advance(params, keys, state, first, last)
        snapshots.append(mesh.fetch(observe(program, params, state, there)))
    return np.stack(snapshots)


def batch_size(run: Run) -> int:
    """A multiple of the device count near BATCH, and at most sample.batch_size, which is one too."""
    return min(run.sample.batch_size, -(-BATCH // run.mesh.size) * run.mesh.size)


def split_batches(walk: Walk, size: int) -> list[Walk]:
    """Splits a walk into walks of 'size' images; the last one is padded by repeating its last image."""
    count = len(walk.numbers)
    row_sets = [np.minimum(np.arange(i, i + size), count - 1) for i in range(0, count, size)]
    x_t = walk.x_t
    return [
        Walk(walk.marks, walk.numbers[rows], None if x_t is None else x_t[rows])
        for rows in row_sets
    ]


def real_images(trained: TrainedRun, split: str, count: int) -> tuple[list[int], Floats]:
    """Draws images of a split by sample.seed. Returns their indices in it, and the images in [-1, 1]."""
    run = trained.run
    source = run.data.open(split)
    indices = batches.batch_indices(source.count, run.sample.seed, count, 0)
    images = jnp.asarray(source.read(indices))
    return indices.tolist(), np.asarray(pixels.normalize(images, run.model.levels))


def diffuse(trained: TrainedRun, x_0: Floats, times: Sequence[int]) -> list[Floats]:
    """Returns x_t at each time; the noise of image i is x_T of sample number i. Eq. 4."""
    run = trained.run
    sched = run.model.sched

    @jax.jit
    def diffuse_to(keys, x_0, t):
        eps = loop.draw_noise(keys, jnp.asarray(sched.T + 1), x_0.shape[1:])
        return diffusion.q_sample(sched, x_0, jnp.full(len(x_0), t), eps)

    # Every process computes the same few images, so they need no mesh.
    keys = loop.image_keys(jax.random.key(run.sample.seed), jnp.arange(len(x_0)))
    return [np.asarray(diffuse_to(keys, x_0, t)) for t in times]


def rmse(
    one: Float[np.ndarray, "*#n h w c"], other: Float[np.ndarray, "*#n h w c"]
) -> Float64[np.ndarray, "..."]:
    """Returns the RMSE of each image on Table 4's scale, 0..255; bound.rmse is of all images together."""
    difference = np.clip(one, -1.0, 1.0) - np.clip(other, -1.0, 1.0)
    return 127.5 * np.sqrt(np.mean(np.square(difference, dtype=np.float64), axis=(-3, -2, -1)))
