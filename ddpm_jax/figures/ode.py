"""The probability-flow ODE of held-out images: bits/dim beside the bound, latents, and the way back.

A figure of Song et al. 2021 (arXiv:2011.13456), Sec. 4.3. The bound is a run's own, of the same images.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpm_jax import (
    build,
    draws,
    each_image,
    likelihood,
    parallel,
    parameterization,
    parts,
    report,
    stopping,
)
from ddpm_jax.build import Run
from ddpm_jax.figures import chains, latents, page
from ddpm_jax.figures.chains import Trained
from ddpm_jax.figures.page import Drawn, Header, Line, Plot
from ddpm_jax.parts import Arrays
from ddpm_jax.sde import flow

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
    if run.model.unet.classes and not run.train.label_dropout:
        raise ValueError(
            "--figures=ode is of images of any class, which a network trained with train.label_dropout"
            " 0 does not know"
        )


def measured(run: Run, params: Any, x_0, keys) -> dict[str, Any]:
    """Bits/dim of each image, dequantised and as it is, and by the bound; its latent and the way back."""
    model, shape = run.model, run.model.shape
    classes = model.unet.classes  # a network that has some is asked about none of them
    labels = jnp.full(1, classes) if classes else None  # one for all: the ODE goes image by image
    denoiser = build.unclipped(model, params, labels)
    uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0), shape))(keys)
    probes = flow.rademacher(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), 1, shape)
    found = {"source": x_0}
    for kind, x in zip(KINDS, (flow.dequantize(x_0, uniform, model.levels), x_0), strict=True):
        nats, x_T = flow.log_density(model.sched, denoiser, x, probes)
        found[kind] = flow.bits_per_dim(nats, x_0[0].size, model.levels)
    bound = likelihood.bound(
        *(model.sched, model.variance, build.denoiser(model, params, labels), x_0, keys),
        *(run.eval.strata, model.levels),
    )
    decoded = flow.decode(model.sched, denoiser, x_T)
    return found | {"bound": bound.total, "latent": x_T, "decoded": decoded}


def collected(trained: Trained, x_0: chains.Floats) -> Arrays:
    """What is measured, in equal batches; the last is filled up by repeating its last image."""
    run, count, size = trained.run, len(x_0), chains.batch_size(trained.run)
    of_batch = jax.jit(lambda params, x_0, keys: measured(run, params, x_0, keys))

    def batch(number: int) -> Arrays:
        stopping.check(f"in ode, batch {number + 1} of {batches}")
        rows = np.minimum(np.arange(number * size, (number + 1) * size), count - 1)
        local = x_0[rows][parallel.rows(size)]
        keys = draws.image_keys(run, run.sample.seed, number * size, size)
        found = of_batch(trained.params, parallel.put(run.mesh, local), keys)
        bar.update()
        return {name: parallel.fetch(each) for name, each in found.items()}

    batches = -(-count // size)
    with report.progress("ode", batches, unit="batch") as bar:
        made = parts.collect(trained.kept / "ode", batches, batch, bar.update)
    return {name: np.concatenate([part[name] for part in made])[:count] for name in made[0]}


def mean(values) -> dict[str, float | None]:
    values = values.astype(np.float64)
    return {
        "bits_per_dim": float(values.mean()),
        "standard_error": each_image.standard_error(values),
    }


def text(name: str, values) -> str:
    found = mean(values)
    error = found["standard_error"]
    return f"{name}: {found['bits_per_dim']:.3f}" + (f" ± {error:.3f}" if error else "")


def ode(trained: Trained) -> Drawn:
    """Bits/dim by the ODE against the bound, image by image, and a page of latents and their decodings."""
    run, split = trained.run, latents.split_of(trained.run)
    count = min(COUNT, run.data.open(split).count)
    indices, x_0 = chains.real_images(trained, split, count)
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
    sheet = page.sheet(
        page.shown(cells, levels), rows, [Header(0, len(cells[0]) - 1, "of the images as they are")]
    )
    back = chains.rmse(found["source"], found["decoded"])
    facts = {
        "solver": f"ode: Dopri5, tolerance {flow.TOLERANCE:g}, from t = {flow.T_MIN:g} to T",
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
    return Drawn({"": page.plots(panels), "-latents": sheet}, facts)
