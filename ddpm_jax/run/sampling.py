"""Sampling from a run: the compiled program, each image's noise and label, and --mode=sample.

--mode=sample writes in batches, so that an interrupted call resumes.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jaxtyping import Array, Int, Key

from ddpm_jax import parameterization
from ddpm_jax.datasets import pixels
from ddpm_jax.datasets.source import Bytes
from ddpm_jax.diffusion import Images
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
    """The arguments of a sampling program for images with labels."""

    params: Any
    labels: Labels | None
    guide: Any = None  # the guiding classifier's parameters, a pytree


def make_program(
    model: Model,
    chain: runs.Chain,
    clip: bool = True,
    guide: Callable[[Denoiser], Denoiser] = lambda denoise: denoise,
) -> loop.Program:
    """Returns the sampling program of a chain, to be called with what 'program_inputs' returns.

    Its denoiser applies network, parameterization, guidance and clip, in this order; 'guide' is guidance
    of the caller's own, after the chain's.
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
        return parameterization.clip(guide(denoise)) if clip else guide(denoise)

    return loop.program(model.sched, chain.sampler, denoiser, chain.times, model.shape)


def program_inputs(run: Run, params: Any, chain: runs.Chain, numbers: Numbers) -> Any:
    """Returns the parameters for a sampling program, with each image's label if a network has classes."""
    classes = class_count(run.model, chain)
    if not classes:
        return params
    labels = numbers % classes if chain.label == runs.ALL else np.full_like(numbers, chain.label)
    return labelled_inputs(run, params, chain, labels)


def labelled_inputs(run: Run, params: Any, chain: runs.Chain, labels: Numbers) -> ProgramInputs:
    """Returns the parameters for a sampling program of a network with classes, and each image's label."""
    placed = mesh.put(run.mesh, labels.astype(np.int32)[mesh.local_rows(len(labels))])
    return ProgramInputs(params=params, labels=placed, guide=chain.guide and chain.guide.params)


def class_count(model: Model, chain: runs.Chain) -> int:
    """Returns the number of classes that a sample can have; 0 if no network uses labels."""
    return (chain.guide.model if chain.guide else model).network.classes


def classes_in_turn(model: Model, chain: runs.Chain) -> int:
    """Returns n if image i is of class i modulo n; 0 if images have one class or none."""
    return class_count(model, chain) if chain.label == runs.ALL else 0


def weight_digests(params: Any, chain: runs.Chain) -> digest.Record:
    """Returns the digests of the parameters that samples depend on: the network's and the classifier's."""
    return digest.record((params, chain.guide and chain.guide.params))


def image_keys(run: Run, seed: int, numbers: Numbers) -> Key[Array, " n"]:
    """Returns one key per image number, sharded over the mesh; equal numbers get equal noise."""

    def make_keys(numbers):
        return loop.image_keys(jax.random.key(seed), numbers)

    return jax.jit(make_keys, out_shardings=mesh.batch_sharding(run.mesh))(numbers)


def generate(run: Run) -> None:
    """Writes samples/<step>-<solver and steps>-<count>-seed<seed>.npz and .png from the run's weights.

    Image i depends on sample.seed and i alone, not on the batch size or the device count. A call
    resumes where an interrupted one stopped. Raises Stopped after a signal.
    """
    write_samples(run, *state.read_weights(run))


def write_samples(run: Run, step: int, params: Any) -> Bytes:
    """Writes the samples of a step with the given parameters, as 'generate' does, and returns them."""
    settings = run.sample
    name = f"{step}-{run.prefix}{settings.chain.name}-{settings.count}-seed{settings.seed}"
    folder = run.directory / "samples"
    program = make_program(run.model, settings.chain)
    batches = -(-settings.count // settings.batch_size)
    chain = settings.chain
    named = chain.label_name not in ("", f"{chain.label}")
    label = f", label {chain.label}" if chain.label != runs.ALL else ""
    label += f": {chain.label_name}" if named else ""
    console.say(f"sampling {settings.count} images at step {step}, {run.prefix}{chain.name}{label}")
    fingerprint = (weight_digests(params, settings.chain), *runs.rounding(run))
    with (
        resumable.parts_folder(folder / name, settings.batch_size, *fingerprint) as parts_folder,
        console.progress("sampling", program.steps * batches) as bar,
    ):

        def make_batch(number: int) -> Arrays:
            path = parts_folder / f"{number:05d}-unfinished.npz"
            x_0 = draw_batch(run, program, params, number, path, bar.update)
            return {"images": pixels.quantize(mesh.fetch(x_0), run.model.levels)}

        parts = resumable.collect(
            parts_folder, batches, make_batch, lambda: bar.update(program.steps)
        )
        images = np.concatenate([part["images"] for part in parts])[: settings.count]
        image_output.write_npz(folder / f"{name}.npz", images)
        classes = classes_in_turn(run.model, chain)
        image_output.write_png(folder / f"{name}.png", image_output.grid(images[:256], classes))
    console.say(f"samples  {folder / name}.npz, .png")
    return images


def find_samples(run: Run, step: int, count: int) -> Bytes | None:
    """Returns the first 'count' images of an existing samples file that has as many, or None."""
    pattern = f"{step}-{run.prefix}{run.sample.chain.name}-[0-9]*-seed{run.sample.seed}.npz"
    for path in sorted((run.directory / "samples").glob(pattern)):
        images = (resumable.read(path) or {}).get("arr_0", np.empty(0))
        if len(images) >= count:
            return images[:count]
    return None


def draw_batch(
    run: Run,
    program: loop.Program,
    params: Any,
    number: int,
    path: epath.Path,
    tick: Callable[[int], object],
) -> Images:
    """Returns the images of a batch, resumed from the state that 'path' may hold.

    'tick' is called with the number of steps just taken. Raises Stopped after a signal, with the
    state saved at 'path'.
    """
    size = run.sample.batch_size
    numbers = np.arange(number * size, (number + 1) * size)
    keys = image_keys(run, run.sample.seed, numbers)
    params = program_inputs(run, params, run.sample.chain, numbers)
    current, done = program.begin(keys), 0
    saved = resumable.read(path)
    if saved is not None:
        done = int(saved["done"])
        leaves = [
            jax.device_put(saved[f"{i}"], leaf.sharding) for i, leaf in enumerate_leaves(current)
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


def enumerate_leaves(state: loop.State) -> Iterator[tuple[int, Array]]:
    return enumerate(jax.tree.leaves(state))
