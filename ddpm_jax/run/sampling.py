"""Sampling from a run: its program, each image's noise and label, and --mode=sample in batches that survive an interruption."""

from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jaxtyping import Array, Int, Key

from ddpm_jax import parameterization
from ddpm_jax.datasets import pixels
from ddpm_jax.datasets.source import Bytes
from ddpm_jax.distributed import mesh
from ddpm_jax.networks.conditioning import Labels
from ddpm_jax.parameterization import Denoiser
from ddpm_jax.run import model as models
from ddpm_jax.run import run as runs
from ddpm_jax.run import state
from ddpm_jax.run.model import Model
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, digest, resumable, signals
from ddpm_jax.runtime import images as image_output
from ddpm_jax.runtime.resumable import Arrays
from ddpm_jax.samplers import loop

Numbers = Int[np.ndarray, " n"]


class ProgramInputs(NamedTuple):
    """What a sampling program is called with where images have labels."""

    params: Any
    labels: Labels | None
    guide: Any = None  # the classifier's parameters


def make_program(model: Model, chain: runs.Chain, clip: bool = True) -> loop.Program:
    """The sampling program, called with parameters, or with ProgramInputs where images have labels.

    Network, parameterization, guidance, clip: in this order.
    """

    def denoiser(inputs: Any) -> Denoiser:
        if not isinstance(inputs, ProgramInputs):
            inputs = ProgramInputs(params=inputs, labels=None)
        labels = inputs.labels if model.network.classes else None
        w = 0.0 if chain.guide else chain.guidance
        denoise = models.unclipped_denoiser(model, inputs.params, labels, w)
        if chain.guide:
            classifier = models.network(chain.guide.model, inputs.guide, labels=inputs.labels)
            denoise = chain.classifier_guidance(chain.guidance, model.sched, denoise, classifier)
        return parameterization.clip(denoise) if clip else denoise

    return loop.program(model.sched, chain.sampler, denoiser, chain.times, model.shape)


def program_inputs(run: Run, params: Any, chain: runs.Chain, numbers: Numbers) -> Any:
    """Parameters for a sampling program, with each image's label where a network has classes."""
    classes = class_count(run.model, chain)
    if not classes:
        return params
    labels = numbers % classes if chain.label == runs.ALL else np.full_like(numbers, chain.label)
    placed = mesh.put(run.mesh, labels.astype(np.int32)[mesh.local_rows(len(labels))])
    return ProgramInputs(params, placed, chain.guide and chain.guide.params)


def class_count(model: Model, chain: runs.Chain) -> int:
    return (chain.guide.model if chain.guide else model).network.classes


def weight_digests(params: Any, chain: runs.Chain) -> digest.Record:
    """What samples depend on beside the config: fingerprints of the network, and of the classifier."""
    return digest.record((params, chain.guide and chain.guide.params))


def image_keys(run: Run, seed: int, numbers: Numbers) -> Key[Array, " n"]:
    """The keys of images by their numbers, spread over the mesh; equal numbers share their noise."""

    def made(numbers):
        return loop.image_keys(jax.random.key(seed), numbers)

    return jax.jit(made, out_shardings=mesh.batch_sharding(run.mesh))(numbers)


def generate(run: Run) -> None:
    """Writes samples/<step>-<solver and steps>-<count>-seed<seed>.npz and .png; raises Stopped if asked to.

    Image i depends on sample.seed and i alone, whatever the batch size or the device count. What an
    interrupted call has made is not made again.
    """
    write_samples(run, *state.read_ema(run))


def write_samples(run: Run, step: int, params: Any) -> Bytes:
    """The same with a step and its weights at hand; returns what it has written."""
    settings = run.sample
    name = f"{step}-{settings.chain.name}-{settings.count}-seed{settings.seed}"
    folder = run.directory / "samples"
    program = make_program(run.model, settings.chain)
    batches = -(-settings.count // settings.batch_size)
    console.say(f"sampling {settings.count} images at step {step}, {settings.chain.name}")
    decides = (weight_digests(params, settings.chain), *runs.rounding(run))
    with (
        resumable.parts_folder(folder / name, settings.batch_size, *decides) as kept,
        console.progress("sampling", program.steps * batches) as bar,
    ):

        def batch(number: int) -> Arrays:
            path = kept / f"{number:05d}-unfinished.npz"
            made = draw_batch(run, program, params, number, path, bar.update)
            return {"images": pixels.quantize(mesh.fetch(made), run.model.levels)}

        made = resumable.collect(kept, batches, batch, lambda: bar.update(program.steps))
        whole = np.concatenate([part["images"] for part in made])[: settings.count]
        image_output.write_npz(folder / f"{name}.npz", whole)
        image_output.write_png(folder / f"{name}.png", image_output.grid(whole[:256]))
    console.say(f"samples  {folder / name}.npz, .png")
    return whole


def find_samples(run: Run, step: int, count: int) -> Bytes | None:
    """The first 'count' images of a file that 'images' has left, whatever sample.count was; or None."""
    pattern = f"{step}-{run.sample.chain.name}-[0-9]*-seed{run.sample.seed}.npz"
    for path in sorted((run.directory / "samples").glob(pattern)):
        made = (resumable.read(path) or {}).get("arr_0", np.empty(0))
        if len(made) >= count:
            return made[:count]
    return None


def draw_batch(run: Run, program: loop.Program, params, number: int, path: epath.Path, tick):
    """The images of a batch, from the state at 'path' if an interrupted call left one there."""
    size = run.sample.batch_size
    numbers = np.arange(number * size, (number + 1) * size)
    keys = image_keys(run, run.sample.seed, numbers)
    params = program_inputs(run, params, run.sample.chain, numbers)
    current, done = program.begin(keys), 0
    left = resumable.read(path)
    if left is not None:
        done = int(left["done"])
        leaves = [
            jax.device_put(left[f"{i}"], leaf.sharding) for i, leaf in enumerate_leaves(current)
        ]
        current = jax.tree.unflatten(jax.tree.structure(current), leaves)
        tick(done)
    for first, last in program.segments(done):
        if signals.agree_to_stop():
            leaves = {f"{i}": mesh.fetch(leaf) for i, leaf in enumerate_leaves(current)}
            resumable.write(path, leaves | {"done": np.asarray(first)})
            signals.check(f"at step {first} of {program.steps} of batch {number + 1}")
        current = program.advance(params, keys, current, first, last)
        tick(last - first)
    path.unlink(missing_ok=True)
    return current[0]


def enumerate_leaves(state: loop.State):
    return enumerate(jax.tree.leaves(state))
