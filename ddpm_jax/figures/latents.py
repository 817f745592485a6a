"""Figures 7, 8 and 9: what is in x_t, seen by sharing it and by mixing two of them. Sec. 4.3, App. D.

The paper's depths are of T = 1000; here they are the same fractions of T, at the nearest time that
the run's sampler visits.
"""

import numpy as np
from jaxtyping import Float

from ddpm_jax.figures import trajectories
from ddpm_jax.figures.trajectories import Chains, Floats, Walk
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import plotting
from ddpm_jax.runtime.plotting import Figure, Header

SHARED = (1.0, 0.75, 0.5, 0.25)  # Fig. 7's x_1000, x_750, x_500, x_250
CONTINUATIONS = 8
PAIRS = 5
LAMBDAS = np.linspace(0.0, 1.0, 11, dtype=np.float32)
ROWS = np.linspace(1.0, 0.0, 9)  # Fig. 9's 1000, 875, ..., 125, 0 steps


def shared_latents(trained: Chains) -> Figure:
    """Fig. 7: samples that share x_t, for t from T down.

    The x_t are sample 0's, and every continuation has noise of its own; only the first goes on as
    sample 0 does. With DDIM of eta 0, which draws none, those of a row are one.
    """
    program, path = trained.program, tuple(trained.program.times.tolist())
    places = tuple(program.index_at(share * path[0]) for share in SHARED)
    numbers = np.arange(len(places) * CONTINUATIONS).reshape(len(places), CONTINUATIONS)
    (trunk,) = trajectories.go(trained, "shared_latents-trunk", [Walk(places, np.array([0]))])
    walks = [
        Walk((place, program.steps), own, np.repeat(x_t, CONTINUATIONS, axis=0))
        for place, own, x_t in zip(places, numbers, trunk, strict=True)
    ]
    samples = np.stack([seen[-1] for seen in trajectories.go(trained, "shared_latents", walks)])
    times = [path[place] for place in places]
    figure = plotting.sheet(
        trajectories.shown(np.concatenate([trunk, samples], axis=1), trained.run.model.levels),
        rows=[f"$t = {t}$" for t in times],
        headers=[Header(0, 0, "$x_t$"), Header(1, CONTINUATIONS, "samples given $x_t$")],
        breaks=(1,),
    )
    apart = [
        trajectories.rmse(row[:, None], row).sum() / (len(row) * (len(row) - 1)) for row in samples
    ]
    facts = {
        "depths": times,
        "numbers": numbers.tolist(),
        "rmse_between_continuations": [float(value) for value in apart],
    }
    return Figure({"": figure}, facts)


def mixed(x_t: Floats) -> Float[np.ndarray, "p l h w c"]:
    """(1 - lambda) x_t + lambda x_t' of images 0 and 1, 2 and 3, and so on, for every lambda."""
    lambdas = LAMBDAS[:, None, None, None]
    return (1.0 - lambdas) * x_t[0::2, None] + lambdas * x_t[1::2, None]


def decoding(trained: Chains, x_t: Floats, place: int) -> Walk:
    """From the mixtures of pairs to images, with noise that a pair's mixtures share. Fig. 8.

    That pair k takes image 2k's noise whatever the depth shares it among depths too, as in Fig. 9.
    """
    mixtures = mixed(x_t)
    numbers = np.repeat(2 * np.arange(len(mixtures)), len(LAMBDAS))
    return Walk((place, trained.program.steps), numbers, mixtures.reshape(-1, *x_t.shape[1:]))


def split_of(run: Run) -> str:
    return run.data.held_out or run.data.split


def headers() -> list[Header]:
    names = ["rec.", *(rf"$\lambda = {value:.1f}$" for value in LAMBDAS[1:-1]), "rec."]
    return [Header(i, i, name) for i, name in enumerate(["source", *names, "source"])]


def framed(x_0: Floats, decoded: Float[np.ndarray, "p l h w c"], levels: int) -> plotting.Cells:
    """Sources, reconstructions and what is between them, pair by pair, in a row each."""
    cells = x_0[0::2, None], decoded, x_0[1::2, None]
    return trajectories.shown(np.concatenate(cells, axis=1), levels)


def interpolation(trained: Chains) -> Figure:
    """Fig. 8: mixtures of pairs of real images, diffused for half of T and decoded."""
    program, levels = trained.program, trained.run.model.levels
    indices, x_0 = trajectories.real_images(trained, split_of(trained.run), 2 * PAIRS)
    place = program.index_at(program.times[0] / 2)
    t = int(program.times[place])
    (x_t,) = trajectories.noised(trained, x_0, [t])
    (seen,) = trajectories.go(trained, "interpolation", [decoding(trained, x_t, place)])
    decoded = seen[-1].reshape(PAIRS, len(LAMBDAS), *x_0.shape[1:])
    cells = framed(x_0, decoded, levels)
    figure = plotting.sheet(cells, [], headers(), breaks=(1, len(LAMBDAS) + 1))
    return Figure({"": figure}, facts(trained, indices, [t]) | errors(x_0, decoded))


def coarse_to_fine(trained: Chains) -> Figure:
    """Fig. 9: one pair, mixed after all of T, 7/8 of it, ..., none. Row 0 mixes the pixels."""
    program, levels = trained.program, trained.run.model.levels
    indices, x_0 = trajectories.real_images(trained, split_of(trained.run), 2)
    places = [program.index_at(share * program.times[0]) for share in ROWS]
    times = [int(program.times[place]) for place in places]
    x_ts = trajectories.noised(trained, x_0, times)
    walks = [decoding(trained, x_t, place) for x_t, place in zip(x_ts, places, strict=True)]
    decoded = np.stack([seen[-1] for seen in trajectories.go(trained, "coarse_to_fine", walks)])
    ends = np.concatenate([x_0] * len(places))
    cells = framed(ends, decoded, levels)
    rows = [f"{t} steps" for t in times]
    figure = plotting.sheet(cells, rows, headers(), breaks=(1, len(LAMBDAS) + 1))
    return Figure({"": figure}, facts(trained, indices, times) | errors(ends, decoded))


def facts(trained: Chains, indices: list[int], times: list[int]) -> dict:
    return {
        "split": split_of(trained.run),
        "pairs": [indices[i : i + 2] for i in range(0, len(indices), 2)],
        "depths": times,
        "lambdas": [round(float(value), 3) for value in LAMBDAS],
    }


def errors(x_0: Floats, decoded: Float[np.ndarray, "p l h w c"]) -> dict:
    """How far the reconstructions of a row are from their sources, left and right."""
    ends = trajectories.rmse(x_0[0::2], decoded[:, 0]), trajectories.rmse(x_0[1::2], decoded[:, -1])
    return {"rmse_of_reconstructions": np.stack(ends, axis=1).tolist()}
