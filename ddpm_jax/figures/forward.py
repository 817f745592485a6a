"""Figure 2, the forward process: images on their way to x_T, and what each t holds and counts. Eqs. 2, 4, 12 and 14."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from ddpm_jax import diffusion
from ddpm_jax.diffusion import Images, Schedule
from ddpm_jax.figures import rate_distortion, trajectories
from ddpm_jax.figures.rate_distortion import NotEvaluated
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.runtime import console, plotting
from ddpm_jax.runtime.plotting import Figure, Header, Line, Plot
from ddpm_jax.samplers import loop

ROWS = 4  # images
COLUMNS = 11  # times shown
Table = Float64[np.ndarray, " T"]


def signal_to_noise(sched: Schedule) -> Table:
    """alpha_bar_t / (1 - alpha_bar_t) for t = 1..T: the variances of signal and noise in x_t. Eq. 4."""
    return sched.alpha_bar[1:] / (1.0 - sched.alpha_bar[1:])


def weights(sched: Schedule) -> dict[str, Table]:
    """The weights of eps's squared error in Eq. 12, in nats, for t = 1..T; in Eq. 14 all of them are 1.

    For both fixed variances of Sec. 3.2. That of beta-tilde is infinite at t = 1, where it is zero.
    """
    beta, alpha_bar = sched.beta[1:], sched.alpha_bar
    common = beta / (2.0 * (1.0 - beta))
    with np.errstate(divide="ignore"):
        return {
            "beta": common / (1.0 - alpha_bar[1:]),
            "beta_tilde": common / (1.0 - alpha_bar[:-1]),
        }


def chain(
    sched: Schedule, x_0: Images, times: Sequence[int], noise: Sequence[Images]
) -> list[Images]:
    """Returns x_t of one chain at 'times', from 0 on, given the noise of each step between them. Eq. 2."""
    seen = [x_0]
    for (s, t), eps in zip(pairwise(times), noise, strict=True):
        s, t = jnp.full(len(x_0), s), jnp.full(len(x_0), t)
        std = jnp.sqrt(diffusion.transition_variance(sched, t, s))
        seen.append(jnp.exp(0.5 * diffusion.log_alpha(sched, t, s)) * seen[-1] + std * eps)
    return seen


def mean_terms(terms: dict[str, list]) -> dict[str, list]:
    """L_{t-1} at the middle of each stratum of an evaluation, per step of it."""
    first, size = (np.asarray(terms[name], np.float64) for name in ("first", "size"))
    bits = np.asarray(terms["bits_per_dim"], np.float64)
    return {"t": (first + (size - 1) / 2).tolist(), "bits_per_dim": (bits / size).tolist()}


def forward(trained: TrainedRun) -> Figure:
    """Training images and their x_t; signal-to-noise ratio, weights and, after an evaluation, terms by t."""
    run = trained.run
    sched, data = run.model.sched, run.data
    times = list(dict.fromkeys(np.linspace(0, sched.T, COLUMNS).round().astype(int).tolist()))
    count = min(ROWS, data.open(data.split).count)
    indices, x_0 = trajectories.real_images(trained, data.split, count)
    keys = loop.image_keys(jax.random.key(run.sample.seed), jnp.arange(count))
    noise = [loop.draw_noise(keys, jnp.asarray(t), x_0.shape[1:]) for t in times[1:]]
    images = np.stack(chain(sched, jnp.asarray(x_0), times, noise), axis=1)
    facts: dict[str, Any] = {
        "split": data.split,
        "indices": indices,
        "times": times,
        "signal_to_noise": signal_to_noise(sched).tolist(),
        "eq_12_weights": {name: listed(values) for name, values in weights(sched).items()},
    }
    try:
        path = rate_distortion.find_evaluation(run, trained.step, "terms by t in forward")
        facts |= {"evaluation": path.name, "terms": mean_terms(rate_distortion.read(path)["terms"])}
    except NotEvaluated as error:
        console.say(str(error))
    headers = [Header(i, i, f"$t = {t}$") for i, t in enumerate(times)]
    sheet = plotting.sheet(trajectories.to_bytes(images, run.model.levels), [], headers)
    return Figure({"": sheet, "-schedule": plotting.plots(panels(facts))}, facts)


def listed(values: Table) -> list[float | None]:
    """Returns a table as JSON can hold it, with None for infinity."""
    return [float(value) if np.isfinite(value) else None for value in values]


def panels(facts: dict[str, Any]) -> list[Plot]:
    """The plots over t, with logarithmic axes, as they span orders of magnitude."""
    t = range(1, len(facts["signal_to_noise"]) + 1)
    by_variance = [
        Line(t, facts["eq_12_weights"]["beta"], r"$\sigma_t^2 = \beta_t$"),
        Line(t, facts["eq_12_weights"]["beta_tilde"], r"$\sigma_t^2 = \tilde\beta_t$"),
    ]
    plots = [
        Plot("$t$", "signal-to-noise ratio", [Line(t, facts["signal_to_noise"])], log=True),
        Plot("$t$", "weight in Eq. 12\n(1 in Eq. 14)", by_variance, log=True),
    ]
    if "terms" in facts:
        terms = facts["terms"]
        bits = [value if value > 0.0 else None for value in terms["bits_per_dim"]]
        plots.append(Plot("$t$", "$L_{t-1}$ (bits/dim)", [Line(terms["t"], bits)], log=True))
    return plots
