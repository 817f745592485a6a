"""--mode=sample: N images from a run's newest checkpoint, in batches that survive an interruption."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ddpm_jax import build, data, parallel, report, sampling, state, workdir
from ddpm_jax.build import Run


def generate(run: Run) -> None:
    """Writes samples/<step>-<solver and steps>-<count>-seed<seed>.npz and .png; finished batches are not made again.

    Image i depends on sample.seed and i alone, whatever the batch size or the device count.
    """
    settings = run.sample
    step, params = state.averaged(run)
    name = f"{step}-{settings.chain.name}-{settings.count}-seed{settings.seed}"
    folder = run.directory / "samples"
    parts = folder / f".{name}-by{settings.batch_size}"
    sample = build.sampling_program(run.model, settings.chain)
    batches = range(0, settings.count, settings.batch_size)
    report.say(f"sampling {settings.count} images at step {step}, {settings.chain.name}")
    steps = len(settings.chain.times) - 1
    with report.progress("sampling", steps * len(batches)) as bar:
        for number, first in enumerate(batches):
            part = parts / f"{number:05d}.npy"
            if part.exists():
                bar.update(steps)
            else:
                images = sample(params, keys(run, first), bar.update)
                save(part, data.quantize(images, run.model.levels))
            if not report.interactive():
                report.say(f"batch {number + 1} of {len(batches)}")
    made = np.concatenate([np.load(io.BytesIO(p.read_bytes())) for p in finished(parts)])
    images = made[: settings.count]
    report.write_npz(folder / f"{name}.npz", images)
    report.write_png(folder / f"{name}.png", report.grid(images[:256]))
    parts.rmtree()
    report.say(f"samples  {folder / name}.npz, .png")


def keys(run: Run, first: int):
    """The keys of the batch of images that begins at 'first', spread over the mesh."""
    numbers = first + jnp.arange(run.sample.batch_size)
    chosen = sampling.image_keys(jax.random.key(run.sample.seed), numbers)
    return jax.device_put(chosen, parallel.by_image(run.mesh))


def save(path: epath.Path, images: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, images)
    workdir.write(path, file.getvalue())


def finished(parts: epath.Path) -> list[epath.Path]:
    return sorted(parts.glob("*.npy"))
