"""What the codec must know of a model beside its weights: a schedule of about 30 steps, in whole numbers.

No training: how far x_0-hat is from x_0 at each t is measured on training images. It gives every
transition the variance that serves the bound best (Analytic-DPM, arXiv:2201.06503, with one number a
step), and dynamic programming the steps at which the bound is least (Watson et al., arXiv:2106.03802).
"""

import json
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float64, Int64

from ddpm_jax.diffusion import Schedule
from ddpm_jax.runtime import files

COEFFICIENT_BITS = 24  # after the binary point
STEPS = 30
VERSION = 1
PathTimes = tuple[int, ...]
OVERHEAD, START = 1.06, 3.0  # bits of a path by its step's KL
CAPACITY = 0.5  # bits a pixel that a path, of one at most, carries with ease
OVERLOAD = 3.0  # what each beyond it costs in later steps
PER_STEP = 10.0  # bits that a step costs beyond its KL, about: tiny images are to have few steps


class Calibration(NamedTuple):
    """All that is chosen by measurement. Step i goes from times[i] to times[i + 1]; times[0] = T and times[-1] = 1.

    The coefficients of the transition p are Q24: of_x_0 and of_x_t those of Eq. 7, sigma its deviation.
    'budget' is what a path costs in the mean, in bits. The last two are the encoder's only: rho2, the
    variance of q by that of p, and the squared error of x_0-hat at times 1..T, on [-1, 1].
    """

    times: PathTimes
    of_x_0: Int64[np.ndarray, " n"]
    of_x_t: Int64[np.ndarray, " n"]
    sigma: Int64[np.ndarray, " n"]
    budget: Int64[np.ndarray, " n"]
    rho2: Float64[np.ndarray, " n"]
    error: Float64[np.ndarray, " n+1"]


def snr(sched: Schedule) -> Float64[np.ndarray, " T"]:
    """Signal to noise of x_1..x_T."""
    return sched.alpha_bar[1:] / (1.0 - sched.alpha_bar[1:])


def time_grid(sched: Schedule, points: int = 60) -> Int64[np.ndarray, " g"]:
    """Times at nearly equal distances of log SNR, 1 and T among them."""
    logs = np.log(snr(sched))
    wanted = np.linspace(logs[0], logs[-1], min(points, sched.T))
    return np.unique(1 + np.abs(logs[:, None] - wanted).argmin(axis=0))


def error_curve(
    sched: Schedule, times: Int64[np.ndarray, " g"], errors: Float64[np.ndarray, " g"]
) -> Float64[np.ndarray, " T"]:
    """The error at every t = 1..T: of those measured, straight lines in logarithms."""
    logs = np.log(snr(sched))
    floor = np.maximum(errors, 1e-12)
    return np.exp(np.interp(-logs, -logs[times - 1], np.log(floor)))


def transition_costs(
    sched: Schedule, error: Float64[np.ndarray, " T"]
) -> Float64[np.ndarray, "T T"]:
    """[t - 1, s - 1]: KL(q || p) of a transition to s < t in bits a pixel, p's variance at its best."""
    ratio = snr(sched)
    gain = np.maximum(ratio[None, :] - ratio[:, None], 0.0) * error[:, None]
    bits = 0.5 * np.log2(1.0 + gain)
    return np.where(np.tri(len(ratio), k=-1, dtype=bool), bits, np.inf)


def cheapest_times(cost: Float64[np.ndarray, "T T"], most: int) -> PathTimes:
    """The cheapest way from T to 1 in at most so many transitions."""
    T = len(cost)
    best = np.full(T, np.inf)
    best[0] = 0.0  # from s = 1 there is nowhere left to go
    choices, totals = [], []
    for _ in range(min(most, T - 1)):
        total = cost + best[None, :]
        choices.append(total.argmin(axis=1))
        best = total.min(axis=1)
        totals.append(best[-1])
    way = [T - 1]
    for choice in reversed(choices[: int(np.argmin(totals)) + 1]):
        way.append(int(choice[way[-1]]))
    return tuple(t + 1 for t in way)


def plan_steps(
    sched: Schedule, error: Float64[np.ndarray, " T"], dims: int, most: int = STEPS
) -> Calibration:
    """Steps, coefficients and budgets by the error at t = 1..T, for images of so many numbers."""
    bits = transition_costs(sched, error)
    dear = OVERLOAD * np.maximum(bits - CAPACITY, 0.0)
    times = cheapest_times(dims * (bits + dear) + PER_STEP, most)
    t, s = np.array(times[:-1]), np.array(times[1:])
    abar_t, abar_s = sched.alpha_bar[t], sched.alpha_bar[s]
    passed = 1.0 - abar_t / abar_s  # the variance of q(x_t | x_s)
    of_x_0 = np.sqrt(abar_s) * passed / (1.0 - abar_t)
    of_x_t = np.sqrt(abar_t / abar_s) * (1.0 - abar_s) / (1.0 - abar_t)
    posterior = passed * (1.0 - abar_s) / (1.0 - abar_t)
    variance = posterior + of_x_0**2 * error[t - 1]
    kl = dims * bits[t - 1, s - 1]
    return Calibration(
        times,
        *(fixed_point(each) for each in (of_x_0, of_x_t, np.sqrt(variance))),
        np.maximum(np.round(OVERHEAD * kl + START), 1).astype(np.int64),
        posterior / variance,
        error[np.array(times) - 1],
    )


def fixed_point(values: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    return np.round(values * 2.0**COEFFICIENT_BITS).astype(np.int64)


def to_json(calibration: Calibration) -> dict[str, Any]:
    lists = {
        name: value.tolist() if isinstance(value, np.ndarray) else list(value)
        for name, value in calibration._asdict().items()
    }
    return {"version": VERSION, **lists}


def canonical_json(value: Any) -> bytes:
    """The bytes of it that are hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def file_path(directory: epath.Path, step: int) -> epath.Path:
    return directory / "codec" / f"{step}-codec.json"


def write(path: epath.Path, calibration: Calibration, facts: dict[str, Any]) -> None:
    files.write_json(path, {"calibration": to_json(calibration), "measured": facts})


def read(path: epath.Path) -> Calibration:
    """Raises ValueError if it is not there or not as it was written."""
    if not path.exists():
        raise ValueError(f"{path} is not there; make it with --mode=calibrate")
    try:
        record = json.loads(path.read_text())["calibration"]
        if record.pop("version") != VERSION:
            raise ValueError("another version's")
        times = tuple(int(t) for t in record.pop("times"))
        whole = {name: np.array(record.pop(name), np.int64) for name in Calibration._fields[1:5]}
        found = Calibration(
            times, **whole, **{name: np.array(value, np.float64) for name, value in record.items()}
        )
        check(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); make it anew, --mode=calibrate") from error
    return found


def check(found: Calibration) -> None:
    steps = len(found.times) - 1
    lengths = {len(each) for each in found[1:6]}
    if lengths != {steps} or len(found.error) != steps + 1 or not 0 < steps < 256:
        raise ValueError("its lists are of unlike lengths")
    if found.times[-1] != 1 or not np.all(np.diff(found.times) < 0) or found.budget.min() < 1:
        raise ValueError("its numbers are none of a schedule")
