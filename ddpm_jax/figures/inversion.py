"""Real images to latents and back along DDIM's ODE, and between two latents: Song et al. 2021, Secs. 4.3 and 5.3.

Without clipping, which the ODE does not know: it has to be smooth to be gone along both ways.
"""

import numpy as np
from jaxtyping import Float

from ddpm_jax import parameterization
from ddpm_jax.figures import latents, trajectories
from ddpm_jax.figures.trajectories import Chains, Floats, Walk
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Chain, Run
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Header, Line, Plot
from ddpm_jax.samplers import ode_solvers, spacing
from ddpm_jax.samplers import steps as sampler_steps

STEPS = (10, 20, 50, 100, 200, 500, 1000)
COUNT = 16
SHOWN = 10
PAIRS = 4
ALPHAS = np.linspace(0.0, 1.0, 9, dtype=np.float32)


def check(run: Run) -> None:
    """Raises ValueError for a network whose own mean is for single steps."""
    if run.model.parameterization is parameterization.x_prev:
        raise ValueError("--figures=inversion goes by x_0, and this network gives its own mean")
    run.data.open(latents.split_of(run))


def program(trained: Chains, sampler: sampler_steps.Sampler, times: np.ndarray) -> Chains:
    """Of a network that has classes it is asked about none of them, if it has learnt to answer that."""
    run = trained.run
    label = run.model.network.classes if run.train.label_dropout else run.sample.chain.label
    chain = Chain(sampler, times, "inversion", label=label)
    made = sampling.make_program(run.model, chain, clip=False)
    run = run._replace(sample=run.sample._replace(chain=chain))
    return trained._replace(run=run, program=made)


def encoded(trained: Chains, x_0: Floats, steps: int) -> Floats:
    """x_T, deterministically, after so many steps."""
    times = spacing.linear(trained.run.model.sched.T, steps)[::-1].copy()
    walk = Walk((0, steps), np.arange(len(x_0)), x_0)
    up = program(trained, ode_solvers.inversion(), times)
    (seen,) = trajectories.go(up, f"inversion-up-{steps}", [walk])
    return seen[-1]


def decoded(trained: Chains, x_T: Floats, steps: int, label: str = "down") -> Floats:
    times = spacing.linear(trained.run.model.sched.T, steps)
    walk = Walk((0, steps), np.arange(len(x_T)), x_T)
    down = program(trained, sampler_steps.lift(sampler_steps.ddim(0.0)), times)
    (seen,) = trajectories.go(down, f"inversion-{label}-{steps}", [walk])
    return seen[-1]


def slerp(
    one: Float[np.ndarray, "n h w c"], other: Float[np.ndarray, "n h w c"], alphas: np.ndarray
) -> Float[np.ndarray, "a n h w c"]:
    """Along the great circle from one latent to the other, for norms that stay typical of N(0, 1). Eq. 67."""
    flat = one.reshape(len(one), -1), other.reshape(len(other), -1)
    cosine = (flat[0] * flat[1]).sum(1) / np.prod([np.linalg.norm(x, axis=1) for x in flat], axis=0)
    theta = np.arccos(np.clip(cosine, -1.0, 1.0))[:, None, None, None]
    alphas = alphas[:, None, None, None, None]
    shares = np.sin((1.0 - alphas) * theta), np.sin(alphas * theta)
    return ((shares[0] * one + shares[1] * other) / np.sin(theta)).astype(np.float32)


def inversion(trained: Chains) -> Figure:
    """RMSE of the round trip over steps; images, latents, reconstructions; and what is between latents."""
    T, levels = trained.run.model.sched.T, trained.run.model.levels
    indices, x_0 = trajectories.real_images(trained, latents.split_of(trained.run), COUNT)
    steps = [n for n in STEPS if n <= T] or [T]
    x_T = {n: encoded(trained, x_0, n) for n in steps}
    back = {n: decoded(trained, x_T[n], n) for n in steps}
    errors = [float(trajectories.rmse(back[n], x_0).mean()) for n in steps]
    finest = steps[-1]
    rows = np.stack([x_0, x_T[finest], *(back[n] for n in steps)])[:, :SHOWN]
    texts = ["source", "$x_T$", *(f"{n} steps" for n in steps)]
    pairs = slerp(x_T[finest][0 : 2 * PAIRS : 2], x_T[finest][1 : 2 * PAIRS : 2], ALPHAS)
    between = decoded(trained, pairs.reshape(-1, *x_0.shape[1:]), finest, "between")
    between = between.reshape(pairs.shape).swapaxes(0, 1)
    headers = [Header(i, i, rf"$\alpha = {a:.2g}$") for i, a in enumerate(ALPHAS)]
    plot = Plot("steps each way", "RMSE of the round trip (0–255)", [Line(steps, errors)], log=True)
    facts = {
        "solver": "ddim-eta0",
        "split": latents.split_of(trained.run),
        "images": indices,
        "steps": steps,
        "rmse": errors,
        "latents_mean": float(x_T[finest].mean()),
        "latents_std": float(x_T[finest].std()),
    }
    return Figure(
        {
            "": plotting.plots([plot]),
            "-images": plotting.sheet(trajectories.shown(rows, levels), texts, []),
            "-between": plotting.sheet(trajectories.shown(between, levels), [], headers),
        },
        facts,
    )
