"""How far fast solvers are from the end of the ODE that they solve, after few looks at the network.

A figure of the paper's successors: Song et al. 2021 (DDIM), Lu et al. 2022, Karras et al. 2022.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddpm_jax import draws, parameterization, solver_settings
from ddpm_jax.build import Run
from ddpm_jax.figures import chains, page, samples
from ddpm_jax.figures.chains import Floats, Trained, Walk
from ddpm_jax.figures.page import Drawn, Line, Plot
from ddpm_jax.settings import Chain

LOOKS = {"ddim": 1, "ddim quadratic": 1, "dpm_solver": 1, "heun": 2}  # that a step takes
STEPS = (3, 5, 10, 20, 50, 100)
COUNT = 64
SHOWN = 10
SEEDS = 3


def chain(run: Run, solver: str, steps: int) -> Chain:
    model = run.model
    name, _, spacing = solver.partition(" ")
    fields = {"steps": steps, "eta": 0.0, "spacing": spacing or solver_settings.LINEAR}
    chosen = solver_settings.chain(
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


def sampled(trained: Trained, solver: str, steps: int, count: int = COUNT, seed: int = 0) -> Floats:
    """Images 0..count - 1 of sample.seed + 'seed', from the x_T that every solver begins with."""
    run = trained.run
    program = draws.program(run.model, chain(run, solver, steps))
    run = run._replace(sample=run.sample._replace(seed=run.sample.seed + seed))
    label = f"solvers-{solver}-{steps}-{seed}"
    walk, size = Walk((0, steps), np.arange(count)), min(count, run.sample.batch_size)
    size = -(-size // run.mesh.size) * run.mesh.size
    (seen,) = chains.go(trained._replace(run=run, program=program), label, [walk], size=size)
    return seen[-1]


def solvers(trained: Trained) -> Drawn:
    """RMSE to Heun's method in all T steps, which is as near to the ODE's end as the schedule allows; and,
    where the run's scores have a space, Frechet distances from the training images over three seeds.
    """
    T, levels = trained.run.model.sched.T, trained.run.model.levels
    steps = [n for n in STEPS if n < T]
    exact = sampled(trained, "heun", T)
    made = {name: [sampled(trained, name, n) for n in steps] for name in LOOKS}
    looks = {name: [n if each == 1 else 2 * n - 1 for n in steps] for name, each in LOOKS.items()}
    errors = {
        name: [float(chains.rmse(images, exact).mean()) for images in of_solver]
        for name, of_solver in made.items()
    }
    lines = [Line(looks[name], errors[name], name) for name in LOOKS]
    plots = [Plot("looks at the network", f"RMSE to heun, {T} (0–255)", lines, log=True)]
    facts = {"solver": list(LOOKS), "reference": f"heun-{T}", "images": COUNT, "steps": steps}
    found = distances(trained, steps)
    if found is not None:
        ends = [min(map(min, looks.values())), max(map(max, looks.values()))]
        lines = [Line(looks[name], means(found[name]), name) for name in LOOKS]
        lines.append(Line(ends, means(found["ancestral"]) * 2, f"ancestral, {T}"))
        plots.append(Plot("looks at the network", "Fréchet distance", lines, log=True))
    rows = [
        (name, n, images) for name in LOOKS for n, images in zip(steps, made[name], strict=True)
    ]
    cells = np.stack([exact[:SHOWN], *(images[:SHOWN] for *_, images in rows)])
    texts = [f"heun, {T}", *(f"{name.replace('_', ' ')}, {n}" for name, n, _ in rows)]
    sheet = page.sheet(page.shown(cells, levels), texts, [])
    return Drawn(
        {"": page.plots(plots), "-samples": sheet},
        facts | {"looks": looks, "rmse": errors, "frechet": found},
    )


def distances(trained: Trained, steps: Sequence[int]) -> dict[str, Any] | None:
    """By solver and number of steps, of each of three seeds; the ancestral chain's is of all T."""
    distance = samples.frechet_distance(trained)
    if distance is None:
        return None
    name, of = distance
    T, levels = trained.run.model.sched.T, trained.run.model.levels
    count = min(samples.asked(trained), samples.MOST)

    def of_seeds(solver: str, n: int) -> list[float]:
        made = [sampled(trained, solver, n, count, seed) for seed in range(SEEDS)]
        return [of(page.shown(images, levels)) for images in made]

    found = {solver: [of_seeds(solver, n) for n in steps] for solver in LOOKS}
    return {"name": name, "samples": count, "ancestral": [of_seeds("ancestral", T)]} | found


def means(of_seeds: list[list[float]]) -> list[float]:
    return [float(np.mean(values)) for values in of_seeds]
