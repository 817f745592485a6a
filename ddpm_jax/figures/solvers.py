"""The error of fast solvers after few network evaluations, against the solution of their ODE.

A figure for the paper's successors: Song et al. 2021 (DDIM), Lu et al. 2022, Karras et al. 2022.
"""

import numpy as np

from ddpm_jax import parameterization
from ddpm_jax.config import sampler
from ddpm_jax.figures import samples, trajectories
from ddpm_jax.figures.samples import Distance
from ddpm_jax.figures.trajectories import Floats, TrainedRun, Walk
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Chain, Run
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Line, Page, Plot
from ddpm_jax.samplers.spacing import LINEAR

EVALUATIONS = {
    "ddim": 1,
    "ddim quadratic": 1,
    "dpm_solver": 1,
    "heun": 2,
}  # of the network, per step
STEPS = (5, 10, 20, 50)
COUNT = 64
SHOWN = 10
SEEDS = 3
MAX_IMAGES = 2000  # of a Frechet distance, as every solver draws them for every seed


def check(run: Run) -> None:
    """Raises ValueError if the network predicts the mean of single steps only, or T is too small."""
    if run.model.parameterization is parameterization.x_prev:
        raise ValueError(
            "--figures=solvers takes few large steps, but diffusion.output=x_prev predicts the mean of"
            " single steps only; it works with eps and x_0"
        )
    if STEPS[0] >= run.model.sched.T:
        raise ValueError(
            f"--figures=solvers needs T > {STEPS[0]}, but diffusion.schedule.T is {run.model.sched.T}"
        )


def make_chain(run: Run, solver: str, steps: int) -> Chain:
    """Returns a deterministic chain of a solver, guided and labelled as the run's own."""
    model = run.model
    name, _, spacing = solver.partition(" ")
    chain = sampler.chain(
        model.sched,
        model.parameterization,
        model.variance,
        "--figures=solvers",
        name,
        steps=steps,
        eta=0.0,
        spacing=spacing or LINEAR,
    )
    own = run.sample.chain
    return chain._replace(guidance=own.guidance, label=own.label, guide=own.guide)


def draw_samples(
    trained: TrainedRun, solver: str, steps: int, count: int, seeds: int
) -> list[Floats]:
    """Draws images 0..count - 1 for sample.seed and the seeds after it; all solvers share their x_T."""
    run = trained.run
    chain = make_chain(run, solver, steps)
    program = sampling.make_program(run.model, chain)
    size = -(-min(count, run.sample.batch_size) // run.mesh.size) * run.mesh.size
    walk = Walk((0, program.steps), np.arange(count))
    results = []
    for seed in range(seeds):
        sample = run.sample._replace(chain=chain, seed=run.sample.seed + seed)
        (snapshots,) = trajectories.run_walks(
            trained._replace(run=run._replace(sample=sample), program=program),
            f"solvers-{chain.name}-{count}-{seed}",
            [walk],
            size=size,
        )
        results.append(snapshots[-1])
    return results


def solvers(trained: TrainedRun) -> Figure:
    """RMSE from Heun's method in all T steps, the closest to the ODE's solution that the schedule allows;
    and, if the run has a feature space, Frechet distances from the training images over three seeds.
    """
    run, distance = trained.run, samples.frechet_distance(trained)
    T, levels = run.model.sched.T, run.model.levels
    steps = [n for n in STEPS if n < T]
    count, seeds = COUNT, 1
    if distance is not None:
        count, seeds = max(COUNT, min(run.eval.quality.samples, MAX_IMAGES)), SEEDS
    (exact,) = draw_samples(trained, "heun", T, COUNT, 1)
    first_rows, errors, frechet = {}, {}, {}
    for name in EVALUATIONS:
        by_steps = [draw_samples(trained, name, n, count, seeds) for n in steps]
        first_rows[name] = [first[:SHOWN] for first, *_ in by_steps]
        errors[name] = [mean_rmse(first[:COUNT], exact) for first, *_ in by_steps]
        if distance is not None:
            frechet[name] = [distances(distance, images, levels) for images in by_steps]
    evaluations = {
        name: [n if each == 1 else 2 * n - 1 for n in steps] for name, each in EVALUATIONS.items()
    }
    facts = {"solver": list(EVALUATIONS), "reference": f"heun-{T}", "images": COUNT, "steps": steps}
    lines = [Line(evaluations[name], errors[name], name) for name in EVALUATIONS]
    plots = [Plot("network evaluations", f"RMSE to heun, {T} (0–255)", lines, log=True)]
    if distance is not None:
        ancestral = draw_samples(trained, "ancestral", T, count, seeds)
        frechet["ancestral"] = [distances(distance, ancestral, levels)]
        plots.append(frechet_plot(evaluations, frechet, T))
        facts["frechet"] = {"name": distance.name, "samples": count} | frechet
    pages = {"": plotting.plots(plots), "-samples": sheet(exact, first_rows, steps, T, levels)}
    return Figure(pages, facts | {"looks": evaluations, "rmse": errors})


def mean_rmse(images: Floats, exact: Floats) -> float:
    return float(trajectories.rmse(images, exact).mean())


def distances(distance: Distance, by_seed: list[Floats], levels: int) -> list[float]:
    return [distance.measure(trajectories.to_bytes(images, levels)) for images in by_seed]


def sheet(
    exact: Floats, first_rows: dict[str, list[Floats]], steps: list[int], T: int, levels: int
) -> Page:
    """A row of samples for each solver and number of steps, below those of the reference."""
    names = [name.replace("_", " ").replace("ddim quad", "quad") for name in first_rows]
    texts = [f"heun, {T}", *(f"{name}, {n}" for name in names for n in steps)]
    rows = [images for by_steps in first_rows.values() for images in by_steps]
    cells = np.stack([exact[:SHOWN], *rows])
    return plotting.sheet(trajectories.to_bytes(cells, levels), texts, [])


def frechet_plot(
    evaluations: dict[str, list[int]], frechet: dict[str, list[list[float]]], T: int
) -> Plot:
    """Frechet distances, averaged over seeds; that of the ancestral chain is a horizontal line."""

    def means(name: str) -> list[float]:
        return [float(np.mean(by_seed)) for by_seed in frechet[name]]

    ends = [min(map(min, evaluations.values())), max(map(max, evaluations.values()))]
    lines = [Line(evaluations[name], means(name), name) for name in EVALUATIONS]
    lines.append(Line(ends, means("ancestral") * 2, f"ancestral, {T}"))
    return Plot("network evaluations", "Fréchet distance", lines, log=True)
