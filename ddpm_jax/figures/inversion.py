"""Real images to latents and back along DDIM's ODE, and interpolation of latents.

Song et al. 2021 (arXiv:2010.02502), Secs. 4.3 and 5.3. x_0-hat is not clipped: clipping is not part of
the ODE, and it cannot be inverted.
"""

import numpy as np
from jaxtyping import Int

from ddpm_jax import parameterization
from ddpm_jax.figures import latents, trajectories
from ddpm_jax.figures.trajectories import Floats, TrainedRun, Walk
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Chain, Run
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Header, Line, Plot
from ddpm_jax.samplers import ode_solvers, slerp, spacing
from ddpm_jax.samplers import steps as sampler_steps

STEPS = (10, 20, 50, 100, 200, 500, 1000)
COUNT = 16
SHOWN = 10
PAIRS = 4
ALPHAS = np.linspace(0.0, 1.0, 9, dtype=np.float32)


def check(run: Run) -> None:
    """Raises ValueError if the network predicts the mean of single steps only, or there are no images."""
    if run.model.parameterization is parameterization.x_prev:
        raise ValueError(
            "--figures=inversion needs x_0-hat for large steps, but diffusion.output=x_prev predicts the"
            " mean of single steps only; it works with eps and x_0"
        )
    latents.check(run)


def with_sampler(
    trained: TrainedRun, sampler: sampler_steps.Sampler, times: Int[np.ndarray, " n"]
) -> TrainedRun:
    """Replaces the sampler. A network trained with label dropout is evaluated without labels."""
    run = trained.run
    label = run.model.network.classes if run.train.label_dropout else run.sample.chain.label
    chain = Chain(sampler=sampler, times=times, name="inversion", label=label)
    program = sampling.make_program(run.model, chain, clip=False)
    run = run._replace(sample=run.sample._replace(chain=chain))
    return trained._replace(run=run, program=program)


def encode(trained: TrainedRun, x_0: Floats, steps: int) -> Floats:
    """Returns x_T, deterministically, in 'steps' steps."""
    times = spacing.linear(trained.run.model.sched.T, steps)[::-1].copy()
    walk = Walk((0, steps), np.arange(len(x_0)), x_0)
    encoder = with_sampler(trained, ode_solvers.inversion(), times)
    (snapshots,) = trajectories.run_walks(encoder, f"inversion-up-{steps}", [walk])
    return snapshots[-1]


def decode(trained: TrainedRun, x_T: Floats, steps: int, label: str = "down") -> Floats:
    """Returns x_0 by DDIM with eta = 0; 'label' names the batches kept."""
    times = spacing.linear(trained.run.model.sched.T, steps)
    walk = Walk((0, steps), np.arange(len(x_T)), x_T)
    decoder = with_sampler(trained, sampler_steps.lift(sampler_steps.ddim(0.0)), times)
    (snapshots,) = trajectories.run_walks(decoder, f"inversion-{label}-{steps}", [walk])
    return snapshots[-1]


def inversion(trained: TrainedRun) -> Figure:
    """RMSE of the round trip against steps; images, latents and reconstructions; interpolated latents."""
    T, levels = trained.run.model.sched.T, trained.run.model.levels
    split = latents.source_split(trained.run)
    indices, x_0 = trajectories.real_images(trained, split, COUNT)
    steps = [n for n in STEPS if n <= T] or [T]
    x_T = {n: encode(trained, x_0, n) for n in steps}
    reconstructions = {n: decode(trained, x_T[n], n) for n in steps}
    errors = [float(trajectories.rmse(reconstructions[n], x_0).mean()) for n in steps]
    finest = steps[-1]
    rows = np.stack([x_0, x_T[finest], *(reconstructions[n] for n in steps)])[:, :SHOWN]
    texts = ["source", "$x_T$", *(f"{n} steps" for n in steps)]
    pairs = slerp.slerp(x_T[finest][0 : 2 * PAIRS : 2], x_T[finest][1 : 2 * PAIRS : 2], ALPHAS)
    decoded = decode(trained, pairs.reshape(-1, *x_0.shape[1:]), finest, "between")
    between = decoded.reshape(pairs.shape).swapaxes(0, 1)
    headers = [Header(i, i, rf"$\alpha = {a:.2g}$") for i, a in enumerate(ALPHAS)]
    plot = Plot("steps each way", "RMSE of the round trip (0–255)", [Line(steps, errors)], log=True)
    facts = {
        "solver": "ddim-eta0",
        "split": split,
        "images": indices,
        "steps": steps,
        "rmse": errors,
        "latents_mean": float(x_T[finest].mean()),
        "latents_std": float(x_T[finest].std()),
    }
    pages = {
        "": plotting.plots([plot]),
        "-images": plotting.sheet(trajectories.to_bytes(rows, levels), texts, []),
        "-between": plotting.sheet(trajectories.to_bytes(between, levels), [], headers),
    }
    return Figure(pages, facts)
