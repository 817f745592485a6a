"""The probability-flow ODE of held-out images: bits/dim beside the bound, latents, and the way back.

A figure of Song et al. 2021 (arXiv:2011.13456), Sec. 4.3. The bound is a run's own, of the same images.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm_jax import parameterization
from ddpm_jax.distributed import mesh
from ddpm_jax.evaluation import per_image
from ddpm_jax.figures import latents, trajectories
from ddpm_jax.figures.trajectories import Chains
from ddpm_jax.losses import bound as bound_terms
from ddpm_jax.run import model as models
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, plotting, resumable, signals
from ddpm_jax.runtime.plotting import Figure, Header, Line, Plot
from ddpm_jax.runtime.resumable import Arrays
from ddpm_jax.samplers import probability_flow

COUNT = 64
SHOWN = 10
KINDS = ("dequantised", "as they are")
WHAT = "u uniform on [0, 1): x_0 + (u - 1/2) 2 / (levels - 1)"


def check(run: Run) -> None:
    """Raises ValueError for a network whose own mean is of single steps, or who knows images by labels only."""
    if run.model.parameterization is parameterization.x_prev:
        raise ValueError(
            "--figures=ode goes by the score, and this network gives its own mean of single steps"
        )
    if run.model.network.classes and not run.train.label_dropout:
        raise ValueError(
            "--figures=ode is of images of any class, which a network trained with train.label_dropout"
            " 0 does not know"
        )


def measured(run: Run, params: Any, x_0, keys) -> dict[str, Any]:
    """Bits/dim of each image, dequantised and as it is, and by the bound; its latent and the way back."""
    model, shape = run.model, run.model.shape
    classes = model.network.classes  # a network that has some is asked about none of them
    labels = jnp.full(1, classes) if classes else None  # one for all: the ODE goes image by image
    denoiser = models.unclipped_denoiser(model, params, labels)
    uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0), shape))(keys)
    probes = probability_flow.rademacher(
        jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), 1, shape
    )
    found = {"source": x_0}
    for kind, x in zip(
        KINDS, (probability_flow.dequantize(x_0, uniform, model.levels), x_0), strict=True
    ):
        nats, x_T = probability_flow.log_density(model.sched, denoiser, x, probes)
        found[kind] = probability_flow.bits_per_dim(nats, x_0[0].size, model.levels)
    bound = bound_terms.bound(
        *(model.sched, model.variance, models.denoiser(model, params, labels), x_0, keys),
        *(run.eval.strata, model.levels),
    )
    decoded = probability_flow.decode(model.sched, denoiser, x_T)
    return found | {"bound": bound.total, "latent": x_T, "decoded": decoded}


def collected(trained: Chains, x_0: trajectories.Floats) -> Arrays:
    """What is measured, in equal batches; the last is filled up by repeating its last image."""
    run, count, size = trained.run, len(x_0), trajectories.batch_size(trained.run)
    of_batch = jax.jit(lambda params, x_0, keys: measured(run, params, x_0, keys))

    def batch(number: int) -> Arrays:
        signals.check(f"in ode, batch {number + 1} of {batches}")
        numbers = np.arange(number * size, (number + 1) * size)
        rows = np.minimum(numbers, count - 1)
        local = x_0[rows][mesh.local_rows(size)]
        keys = sampling.image_keys(run, run.sample.seed, numbers)
        found = of_batch(trained.params, mesh.put(run.mesh, local), keys)
        bar.update()
        return {name: mesh.fetch(each) for name, each in found.items()}

    batches = -(-count // size)
    with console.progress("ode", batches, unit="batch") as bar:
        made = resumable.collect(trained.kept / "ode", batches, batch, bar.update)
    return {name: np.concatenate([part[name] for part in made])[:count] for name in made[0]}


def mean(values) -> dict[str, float | None]:
    values = values.astype(np.float64)
    return {
        "bits_per_dim": float(values.mean()),
        "standard_error": per_image.standard_error(values),
    }


def text(name: str, values) -> str:
    found = mean(values)
    error = found["standard_error"]
    return f"{name}: {found['bits_per_dim']:.3f}" + (f" ± {error:.3f}" if error else "")


def ode(trained: Chains) -> Figure:
    """Bits/dim by the ODE against the bound, image by image, and a page of latents and their decodings."""
    run, split = trained.run, latents.split_of(trained.run)
    count = min(COUNT, run.data.open(split).count)
    indices, x_0 = trajectories.real_images(trained, split, count)
    found = collected(trained, x_0)
    bound, levels = found["bound"], run.model.levels
    ends = [float(bound.min()), float(bound.max())]
    panels = [
        Plot(
            text("the bound, bits/dim", bound),
            f"by the ODE, {kind}",
            [
                Line(bound.tolist(), found[kind].tolist(), text("mean", found[kind]), marker="o"),
                Line(ends, ends, "equal"),
            ],
        )
        for kind in KINDS
    ]
    cells = np.stack([found[name][:SHOWN] for name in ("source", "latent", "decoded")])
    rows = ["source", "$x_T$", "decoded"]
    sheet = plotting.sheet(
        trajectories.shown(cells, levels),
        rows,
        [Header(0, len(cells[0]) - 1, "of the images as they are")],
    )
    back = trajectories.rmse(found["source"], found["decoded"])
    facts = {
        "solver": f"ode: Dopri5, tolerance {probability_flow.TOLERANCE:g}, from t = {probability_flow.T_MIN:g} to T",
        "split": split,
        "images": count,
        "indices": indices,
        "bound": mean(bound) | {"steps": len(run.eval.strata.first)},
        "ode": {kind: mean(found[kind]) for kind in KINDS},
        "probes": "1 of signs an image",
        "dequantisation": WHAT,
        "rmse_of_the_way_back": {"mean": float(back.mean()), "max": float(back.max())},
        "latents_of_images_as_they_are": {
            "mean": float(found["latent"].mean()),
            "standard_deviation": float(found["latent"].std()),
        },
    }
    return Figure({"": plotting.plots(panels), "-latents": sheet}, facts)
