"""--mode=sample: N images from a run's newest checkpoint, in batches that survive an interruption."""

from typing import Any

import jax
import numpy as np
from etils import epath

from ddpm_jax import build, data, draws, parallel, parts, report, sampling, state, stopping
from ddpm_jax.build import Run
from ddpm_jax.data import Bytes
from ddpm_jax.parts import Arrays


def generate(run: Run) -> None:
    """Writes samples/<step>-<solver and steps>-<count>-seed<seed>.npz and .png; raises Stopped if asked to.

    Image i depends on sample.seed and i alone, whatever the batch size or the device count. What an
    interrupted call has made is not made again.
    """
    images(run, *state.averaged(run))


def images(run: Run, step: int, params: Any) -> Bytes:
    """The same with a step and its weights at hand; returns what it has written."""
    settings = run.sample
    name = f"{step}-{settings.chain.name}-{settings.count}-seed{settings.seed}"
    folder = run.directory / "samples"
    program = draws.program(run.model, settings.chain)
    batches = -(-settings.count // settings.batch_size)
    report.say(f"sampling {settings.count} images at step {step}, {settings.chain.name}")
    decides = (draws.weights(params, settings.chain), *build.rounding(run))
    with (
        parts.beside(folder / name, settings.batch_size, *decides) as kept,
        report.progress("sampling", program.steps * batches) as bar,
    ):

        def batch(number: int) -> Arrays:
            path = kept / f"{number:05d}-unfinished.npz"
            made = draw(run, program, params, number, path, bar.update)
            return {"images": data.quantize(parallel.fetch(made), run.model.levels)}

        made = parts.collect(kept, batches, batch, lambda: bar.update(program.steps))
        whole = np.concatenate([part["images"] for part in made])[: settings.count]
        report.write_npz(folder / f"{name}.npz", whole)
        report.write_png(folder / f"{name}.png", report.grid(whole[:256]))
    report.say(f"samples  {folder / name}.npz, .png")
    return whole


def found(run: Run, step: int, count: int) -> Bytes | None:
    """The first 'count' images of a file that 'images' has left, whatever sample.count was; or None."""
    pattern = f"{step}-{run.sample.chain.name}-[0-9]*-seed{run.sample.seed}.npz"
    for path in sorted((run.directory / "samples").glob(pattern)):
        made = (parts.read(path) or {}).get("arr_0", np.empty(0))
        if len(made) >= count:
            return made[:count]
    return None


def draw(run: Run, program: sampling.Program, params, number: int, path: epath.Path, tick):
    """The images of a batch, from the state at 'path' if an interrupted call left one there."""
    size = run.sample.batch_size
    numbers = np.arange(number * size, (number + 1) * size)
    keys = draws.keys_of(run, run.sample.seed, numbers)
    params = draws.given(run, params, run.sample.chain, numbers)
    current, done = program.begin(keys), 0
    left = parts.read(path)
    if left is not None:
        done = int(left["done"])
        leaves = [jax.device_put(left[f"{i}"], leaf.sharding) for i, leaf in flat(current)]
        current = jax.tree.unflatten(jax.tree.structure(current), leaves)
        tick(done)
    for first, last in program.spans(done):
        if stopping.agreed():
            leaves = {f"{i}": parallel.fetch(leaf) for i, leaf in flat(current)}
            parts.write(path, leaves | {"done": np.asarray(first)})
            stopping.check(f"at step {first} of {program.steps} of batch {number + 1}")
        current = program.go_on(params, keys, current, first, last)
        tick(last - first)
    path.unlink(missing_ok=True)
    return current[0]


def flat(state: sampling.State):
    return enumerate(jax.tree.leaves(state))
