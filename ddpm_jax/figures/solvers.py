"""How far fast solvers end from the ODE's solution after few network evaluations.

A figure of the paper's successors: Song et al. 2021 (DDIM), Lu et al. 2022, Karras et al. 2022.
"""

import numpy as np

from ddpm_jax import parameterization
from ddpm_jax.config import sampler
from ddpm_jax.figures import samples, trajectories
from ddpm_jax.figures.trajectories import Chains, Floats, Walk
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Chain, Run
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Line, Plot
from ddpm_jax.samplers import loop
from ddpm_jax.samplers.spacing import LINEAR

LOOKS = {"ddim": 1, "ddim quadratic": 1, "dpm_solver": 1, "heun": 2}  # that a step takes
STEPS = (5, 10, 20, 50)
COUNT = 64
SHOWN = 10
SEEDS = 3


def chain(run: Run, solver: str, steps: int) -> Chain:
    model = run.model
    name, _, spacing = solver.partition(" ")
    fields = {"steps": steps, "eta": 0.0, "spacing": spacing or LINEAR}
    chosen = sampler.chain(
        model.sched, model.parameterization, model.variance, "--figures=solvers", name, **fields
    )
    asked = run.sample.chain
    return chosen._replace(guidance=asked.guidance, label=asked.label, guide=asked.guide)


def check(run: Run) -> None:
    """Raises ValueError for a network whose own mean keeps it from taking few steps."""
    if run.model.parameterization is parameterization.x_prev:
        raise ValueError(
            "--figures=solvers is of few steps, and this network's own mean of single ones"
        )
    if STEPS[0] >= run.model.sched.T:
        raise ValueError(f"--figures=solvers takes {STEPS[0]} steps or more of a larger T")


def sampled(
    trained: Chains, chosen: Chain, program: loop.Program, count: int, seed: int = 0
) -> Floats:
    """Images 0..count - 1 of sample.seed + 'seed', from the x_T that every solver begins with."""
    run = trained.run
    size = -(-min(count, run.sample.batch_size) // run.mesh.size) * run.mesh.size
    run = run._replace(sample=run.sample._replace(chain=chosen, seed=run.sample.seed + seed))
    walk = Walk((0, program.steps), np.arange(count))
    label = f"solvers-{chosen.name}-{count}-{seed}"
    (seen,) = trajectories.go(trained._replace(run=run, program=program), label, [walk], size=size)
    return seen[-1]


def solvers(trained: Chains) -> Figure:
    """RMSE to Heun's method in all T steps, which is as near to the ODE's end as the schedule allows; and,
    where the run's scores have a space, Frechet distances from the training images over three seeds.
    """
    run, distance = trained.run, samples.frechet_distance(trained)
    T, levels = run.model.sched.T, run.model.levels
    steps = [n for n in STEPS if n < T]
    count, seeds = COUNT, 1
    if distance is not None:
        count, seeds = max(COUNT, min(samples.asked(trained), samples.MOST)), SEEDS

    def drawn(solver: str, n: int, count: int, seeds: int) -> list[Floats]:
        chosen = chain(run, solver, n)
        program = sampling.make_program(run.model, chosen)
        return [sampled(trained, chosen, program, count, seed) for seed in range(seeds)]

    def distances(of_seeds: list[Floats]) -> list[float]:
        return [distance[1](trajectories.shown(images, levels)) for images in of_seeds]

    (exact,) = drawn("heun", T, COUNT, 1)
    shown, errors, found = {}, {}, {}
    for name in LOOKS:
        made = [drawn(name, n, count, seeds) for n in steps]
        shown[name] = [first[:SHOWN] for first, *_ in made]
        errors[name] = [float(trajectories.rmse(first[:COUNT], exact).mean()) for first, *_ in made]
        found[name] = [distances(of_seeds) for of_seeds in made] if distance else None
    looks = {name: [n if each == 1 else 2 * n - 1 for n in steps] for name, each in LOOKS.items()}
    facts = {"solver": list(LOOKS), "reference": f"heun-{T}", "images": COUNT, "steps": steps}
    lines = [Line(looks[name], errors[name], name) for name in LOOKS]
    plots = [Plot("network evaluations", f"RMSE to heun, {T} (0–255)", lines, log=True)]
    if distance is not None:
        found["ancestral"] = [distances(drawn("ancestral", T, count, seeds))]
        plots.append(of_distances(looks, found, T))
        facts["frechet"] = {"name": distance[0], "samples": count} | found
    names = [name.replace("_", " ").replace("ddim quad", "quad") for name in LOOKS]
    texts = [f"heun, {T}", *(f"{name}, {n}" for name in names for n in steps)]
    cells = np.stack([exact[:SHOWN], *(images for name in LOOKS for images in shown[name])])
    sheet = plotting.sheet(trajectories.shown(cells, levels), texts, [])
    return Figure(
        {"": plotting.plots(plots), "-samples": sheet}, facts | {"looks": looks, "rmse": errors}
    )


def of_distances(looks: dict[str, list[int]], found: dict[str, list[list[float]]], T: int) -> Plot:
    ends = [min(map(min, looks.values())), max(map(max, looks.values()))]
    lines = [Line(looks[name], means(found[name]), name) for name in LOOKS]
    lines.append(Line(ends, means(found["ancestral"]) * 2, f"ancestral, {T}"))
    return Plot("network evaluations", "Fréchet distance", lines, log=True)


def means(of_seeds: list[list[float]]) -> list[float]:
    return [float(np.mean(values)) for values in of_seeds]
