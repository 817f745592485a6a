"""The probability-flow ODE of held-out images: bits/dim against the bound, latents and reconstructions.

A figure for Song et al. 2021 (arXiv:2011.13456), Sec. 4.3. The bound is the run's own, on the same images.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ddpm_jax import parameterization
from ddpm_jax.diffusion import Images
from ddpm_jax.distributed import mesh
from ddpm_jax.evaluation import per_image
from ddpm_jax.figures import latents, trajectories
from ddpm_jax.figures.trajectories import Floats, TrainedRun
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
DEQUANTISED, AS_THEY_ARE = "dequantised", "as they are"  # the images whose density is measured
NOISE = "u uniform on [0, 1): x_0 + (u - 1/2) 2 / (levels - 1)"
Values = Float[np.ndarray, " n"]


def check(run: Run) -> None:
    """Raises ValueError for a network that predicts means of single steps, or that needs labels."""
    if run.model.parameterization is parameterization.x_prev:
        raise ValueError(
            "--figures=ode needs the score, but diffusion.output=x_prev predicts the mean of single"
            " steps only; it works with eps and x_0"
        )
    if run.model.network.classes and not run.train.label_dropout:
        raise ValueError(
            "--figures=ode evaluates the network without labels, but it was trained with"
            " train.label_dropout=0, so it needs one for every image"
        )
    latents.check(run)


def measure(
    run: Run, params: Any, x_0: Images, keys: Key[Array, " b"]
) -> dict[str, Float[Array, "..."]]:
    """Bits/dim of each image, dequantised and as it is, and by the bound; its latent and reconstruction."""
    model, shape = run.model, run.model.shape
    classes = model.network.classes
    # The label beyond the classes stands for none. There is one for all, as the ODE takes single images.
    labels = jnp.full(1, classes) if classes else None
    denoiser = models.unclipped_denoiser(model, params, labels)
    uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0), shape))(keys)
    probes = probability_flow.rademacher(
        jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), 1, shape
    )

    def density(x: Images) -> tuple[Float[Array, " b"], Images]:
        nats, x_T = probability_flow.log_density(model.sched, denoiser, x, probes)
        return probability_flow.bits_per_dim(nats, x_0[0].size, model.levels), x_T

    dequantised_bits, _ = density(probability_flow.dequantize(x_0, uniform, model.levels))
    bits, x_T = density(x_0)
    bound = bound_terms.bound(
        model.sched,
        model.variance,
        models.denoiser(model, params, labels),
        x_0,
        keys,
        run.eval.strata,
        model.levels,
    )
    return {
        "source": x_0,
        DEQUANTISED: dequantised_bits,
        AS_THEY_ARE: bits,
        "bound": jnp.asarray(bound.total),
        "latent": x_T,
        "decoded": probability_flow.decode(model.sched, denoiser, x_T),
    }


def measure_all(trained: TrainedRun, x_0: Floats) -> Arrays:
    """Measures all images in batches of one size; the last is padded by repeating its last image."""
    run, count, size = trained.run, len(x_0), trajectories.batch_size(trained.run)
    compiled = jax.jit(lambda params, x_0, keys: measure(run, params, x_0, keys))
    batches = -(-count // size)

    def measure_batch(number: int) -> Arrays:
        signals.check(f"in ode, batch {number + 1} of {batches}")
        numbers = np.arange(number * size, (number + 1) * size)
        rows = np.minimum(numbers, count - 1)
        local = x_0[rows][mesh.local_rows(size)]
        keys = sampling.image_keys(run, run.sample.seed, numbers)
        values = compiled(trained.params, mesh.put(run.mesh, local), keys)
        bar.update()
        return {name: mesh.fetch(each) for name, each in values.items()}

    with console.progress("ode", batches, unit="batch") as bar:
        parts = resumable.collect(trained.kept / "ode", batches, measure_batch, bar.update)
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def summary(values: Values) -> dict[str, float | None]:
    values = values.astype(np.float64)
    return {
        "bits_per_dim": float(values.mean()),
        "standard_error": per_image.standard_error(values),
    }


def label(name: str, values: Values) -> str:
    """The name with the mean over images and its standard error."""
    mean = summary(values)
    error = mean["standard_error"]
    return f"{name}: {mean['bits_per_dim']:.3f}" + (f" ± {error:.3f}" if error else "")


def plot(values: Arrays, kind: str) -> Plot:
    """Bits/dim by the ODE against the bound, a point per image."""
    bound = values["bound"]
    ends = [float(bound.min()), float(bound.max())]
    return Plot(
        label("the bound, bits/dim", bound),
        f"by the ODE, {kind}",
        [
            Line(bound.tolist(), values[kind].tolist(), label("mean", values[kind]), marker="o"),
            Line(ends, ends, "equal"),
        ],
    )


def ode(trained: TrainedRun) -> Figure:
    """Bits/dim by the ODE against the bound, image by image; and a page of latents and reconstructions."""
    run, split = trained.run, latents.source_split(trained.run)
    count = min(COUNT, run.data.open(split).count)
    indices, x_0 = trajectories.real_images(trained, split, count)
    values = measure_all(trained, x_0)
    cells = np.stack([values[name][:SHOWN] for name in ("source", "latent", "decoded")])
    sheet = plotting.sheet(
        trajectories.to_bytes(cells, run.model.levels),
        ["source", "$x_T$", "decoded"],
        [Header(0, len(cells[0]) - 1, "of the images as they are")],
    )
    rmse = trajectories.rmse(values["source"], values["decoded"])
    solver = f"Dopri5, tolerance {probability_flow.TOLERANCE:g}"
    facts = {
        "solver": f"ode: {solver}, from t = {probability_flow.T_MIN:g} to T",
        "split": split,
        "images": count,
        "indices": indices,
        "bound": summary(values["bound"]) | {"steps": len(run.eval.strata.first)},
        "ode": {kind: summary(values[kind]) for kind in (DEQUANTISED, AS_THEY_ARE)},
        "probes": "1 of signs an image",
        "dequantisation": NOISE,
        "rmse_of_the_way_back": {"mean": float(rmse.mean()), "max": float(rmse.max())},
        "latents_of_images_as_they_are": {
            "mean": float(values["latent"].mean()),
            "standard_deviation": float(values["latent"].std()),
        },
    }
    plots = plotting.plots([plot(values, kind) for kind in (DEQUANTISED, AS_THEY_ARE)])
    return Figure({"": plots, "-latents": sheet}, facts)
