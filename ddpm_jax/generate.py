"""--mode=sample: N images from a run's newest checkpoint, in batches that survive an interruption."""

import jax
import numpy as np
from etils import epath

from ddpm_jax import build, data, digest, parallel, parts, report, sampling, state, stopping
from ddpm_jax.build import Run
from ddpm_jax.parts import Arrays


def generate(run: Run) -> None:
    """Writes samples/<step>-<solver and steps>-<count>-seed<seed>.npz and .png; raises Stopped if asked to.

    Image i depends on sample.seed and i alone, whatever the batch size or the device count. What an
    interrupted call has made is not made again.
    """
    settings = run.sample
    step, params = state.averaged(run)
    npz = path(run, step)
    program = build.sampling_program(run.model, settings.chain)
    batches = -(-settings.count // settings.batch_size)
    report.say(f"sampling {settings.count} images at step {step}, {settings.chain.name}")
    decides = (digest.record(params), *build.rounding(run))
    with (
        parts.beside(npz.with_suffix(""), settings.batch_size, *decides) as kept,
        report.progress("sampling", program.steps * batches) as bar,
    ):

        def batch(number: int) -> Arrays:
            unfinished = kept / f"{number:05d}-unfinished.npz"
            made = draw(run, program, params, number, unfinished, bar.update)
            return {"images": data.quantize(parallel.fetch(made), run.model.levels)}

        made = parts.collect(kept, batches, batch, lambda: bar.update(program.steps))
        images = np.concatenate([part["images"] for part in made])[: settings.count]
        report.write_npz(npz, images)
        report.write_png(npz.with_suffix(".png"), report.grid(images[:256]))
    report.say(f"samples  {npz.with_suffix('')}.npz, .png")


def path(run: Run, step: int) -> epath.Path:
    """Where the samples of a step are, once they are made; the name says all that decides them."""
    chosen = run.sample
    name = f"{step}-{chosen.chain.name}-{chosen.count}-seed{chosen.seed}.npz"
    return run.directory / "samples" / name


def draw(run: Run, program: sampling.Program, params, number: int, path: epath.Path, tick):
    """The images of a batch, from the state at 'path' if an interrupted call left one there."""
    size = run.sample.batch_size
    keys = build.image_keys(run, run.sample.seed, number * size, size)
    current, done = program.begin(keys), 0
    left = parts.read(path)
    if left is not None:
        done = int(left["done"])
        leaves = [jax.device_put(left[f"{i}"], leaf.sharding) for i, leaf in flat(current)]
        current = jax.tree.unflatten(jax.tree.structure(current), leaves)
        tick(done)
    for first, last in program.spans(done):
        if stopping.asked():
            leaves = {f"{i}": parallel.fetch(leaf) for i, leaf in flat(current)}
            parts.write(path, leaves | {"done": np.asarray(first)})
            stopping.check(f"at step {first} of {program.steps} of batch {number + 1}")
        current = program.go_on(params, keys, current, first, last)
        tick(last - first)
    path.unlink(missing_ok=True)
    return current[0]


def flat(state: sampling.State):
    return enumerate(jax.tree.leaves(state))
