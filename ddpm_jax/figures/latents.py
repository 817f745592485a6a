"""Figures 7, 8 and 9: samples that share x_t, and interpolation between two of them. Sec. 4.3, App. D.

The paper's depths are times of its linear schedule with T = 1000. Here they are the times, among those that the
run's sampler visits, at which as much of an image is left.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from ddpm_jax import diffusion
from ddpm_jax.figures import trajectories
from ddpm_jax.figures.trajectories import Floats, TrainedRun, Walk
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Header

PAPER = diffusion.linear(1000, 1e-4, 0.02)
SIDE = 32  # pixels: the height of the smallest images for which the paper has depths
SHARED = (1000, 750, 500, 250)  # Fig. 7
INTERPOLATED = 500  # Fig. 8
CONTINUATIONS = 8
PAIRS = 5
LAMBDAS = np.linspace(0.0, 1.0, 11, dtype=np.float32)
ROWS = (1000, 875, 750, 625, 500, 375, 250, 125, 0)  # Fig. 9


def check(run: Run) -> None:
    """Raises ValueError if the split of the source images cannot be read."""
    run.data.open(source_split(run))


def source_split(run: Run) -> str:
    return run.data.held_out or run.data.split


def find_place(trained: TrainedRun, t: int) -> int:
    """Returns the place on the sampler's path that stands for the paper's time t.

    There sqrt(alpha_bar) is closest to the paper's, which is 0.28 at t = 500; its t = T stands for T. Noise
    averages out over fewer pixels in images of less than 32, so these need a signal-to-noise ratio that is greater
    by the ratio of the areas to keep as much of what they show (Hoogeboom et al. 2023, arXiv:2301.11093, Sec. 3.1).
    """
    if t == PAPER.T:
        return 0
    program, model = trained.program, trained.run.model
    area = max(1.0, SIDE / model.shape[0]) ** 2
    alpha_bar = PAPER.alpha_bar[t] * area / (1.0 + PAPER.alpha_bar[t] * (area - 1.0))
    signal = np.sqrt(model.sched.alpha_bar[program.times])
    return int(np.abs(signal - np.sqrt(alpha_bar)).argmin())


def shared_latents(trained: TrainedRun) -> Figure:
    """Fig. 7: samples that share x_t, for t from T down.

    Each x_t is that of sample 0. Every continuation has its own noise, and the first of each row has that of
    sample 0. Deterministic DDIM (eta = 0) draws no noise, so there the images of a row are equal.
    """
    program, path = trained.program, tuple(trained.program.times.tolist())
    places = tuple(find_place(trained, t) for t in SHARED)
    numbers = np.arange(len(places) * CONTINUATIONS).reshape(len(places), CONTINUATIONS)
    trunk_walk = Walk(places, np.array([0]))
    (trunk,) = trajectories.run_walks(trained, "shared_latents-trunk", [trunk_walk])
    walks = [
        Walk((place, program.steps), row_numbers, np.repeat(x_t, CONTINUATIONS, axis=0))
        for place, row_numbers, x_t in zip(places, numbers, trunk, strict=True)
    ]
    snapshots = trajectories.run_walks(trained, "shared_latents", walks)
    samples = np.stack([each[-1] for each in snapshots])
    times = [path[place] for place in places]
    cells = np.concatenate([trunk, samples], axis=1)
    figure = plotting.sheet(
        trajectories.to_bytes(cells, trained.run.model.levels),
        rows=[f"$t = {t}$" for t in times],
        headers=[Header(0, 0, "$x_t$"), Header(1, CONTINUATIONS, "samples given $x_t$")],
        breaks=(1,),
    )
    mean_rmse = [
        trajectories.rmse(row[:, None], row).sum() / (len(row) * (len(row) - 1)) for row in samples
    ]
    facts = {
        "depths": times,
        "numbers": numbers.tolist(),
        "rmse_between_continuations": [float(value) for value in mean_rmse],
    }
    return Figure({"": figure}, facts)


def mix_pairs(x_t: Floats) -> Float[np.ndarray, "p l h w c"]:
    """Returns (1 - lambda) x_t + lambda x_t' of images 0 and 1, 2 and 3, and so on, for every lambda."""
    lambdas = LAMBDAS[:, None, None, None]
    return (1.0 - lambdas) * x_t[0::2, None] + lambdas * x_t[1::2, None]


def decoding_walk(trained: TrainedRun, x_t: Floats, place: int) -> Walk:
    """Returns the walk from mixtures to images; the mixtures of a pair share their noise. Fig. 8.

    Pair k takes the noise of image 2k at every depth, so depths share it too, as in Fig. 9.
    """
    mixtures = mix_pairs(x_t)
    numbers = np.repeat(2 * np.arange(len(mixtures)), len(LAMBDAS))
    return Walk((place, trained.program.steps), numbers, mixtures.reshape(-1, *x_t.shape[1:]))


def headers() -> list[Header]:
    names = ["rec.", *(rf"$\lambda = {value:.1f}$" for value in LAMBDAS[1:-1]), "rec."]
    return [Header(i, i, name) for i, name in enumerate(["source", *names, "source"])]


def add_sources(
    x_0: Floats, decoded: Float[np.ndarray, "p l h w c"], levels: int
) -> plotting.Cells:
    """One row per pair: the decoded images between their two sources."""
    cells = x_0[0::2, None], decoded, x_0[1::2, None]
    return trajectories.to_bytes(np.concatenate(cells, axis=1), levels)


def interpolation(trained: TrainedRun) -> Figure:
    """Fig. 8: pairs of real images, diffused to the paper's t = 500, mixed and decoded."""
    program, levels = trained.program, trained.run.model.levels
    indices, x_0 = trajectories.real_images(trained, source_split(trained.run), 2 * PAIRS)
    place = find_place(trained, INTERPOLATED)
    t = int(program.times[place])
    (x_t,) = trajectories.diffuse(trained, x_0, [t])
    walk = decoding_walk(trained, x_t, place)
    (snapshots,) = trajectories.run_walks(trained, "interpolation", [walk])
    decoded = snapshots[-1].reshape(PAIRS, len(LAMBDAS), *x_0.shape[1:])
    cells = add_sources(x_0, decoded, levels)
    figure = plotting.sheet(cells, [], headers(), breaks=(1, len(LAMBDAS) + 1))
    return Figure({"": figure}, facts(trained, indices, [t]) | errors(x_0, decoded))


def coarse_to_fine(trained: TrainedRun) -> Figure:
    """Fig. 9: one pair, mixed after 1000, 875, ..., 0 of the paper's steps. The last row mixes pixels."""
    program, levels = trained.program, trained.run.model.levels
    indices, x_0 = trajectories.real_images(trained, source_split(trained.run), 2)
    places = [find_place(trained, t) for t in ROWS]
    times = [int(program.times[place]) for place in places]
    x_ts = trajectories.diffuse(trained, x_0, times)
    walks = [decoding_walk(trained, x_t, place) for x_t, place in zip(x_ts, places, strict=True)]
    snapshots = trajectories.run_walks(trained, "coarse_to_fine", walks)
    decoded = np.stack([each[-1] for each in snapshots])
    ends = np.concatenate([x_0] * len(places))
    cells = add_sources(ends, decoded, levels)
    rows = [f"{t} steps" for t in times]
    figure = plotting.sheet(cells, rows, headers(), breaks=(1, len(LAMBDAS) + 1))
    return Figure({"": figure}, facts(trained, indices, times) | errors(ends, decoded))


def facts(trained: TrainedRun, indices: list[int], times: list[int]) -> dict[str, Any]:
    return {
        "split": source_split(trained.run),
        "pairs": [indices[i : i + 2] for i in range(0, len(indices), 2)],
        "depths": times,
        "sqrt_alpha_bar": np.sqrt(trained.run.model.sched.alpha_bar[times]).tolist(),
        "lambdas": [round(float(value), 3) for value in LAMBDAS],
    }


def errors(x_0: Floats, decoded: Float[np.ndarray, "p l h w c"]) -> dict[str, Any]:
    """RMSE of each row's reconstructions from their sources, left and right."""
    ends = trajectories.rmse(x_0[0::2], decoded[:, 0]), trajectories.rmse(x_0[1::2], decoded[:, -1])
    return {"rmse_of_reconstructions": np.stack(ends, axis=1).tolist()}
