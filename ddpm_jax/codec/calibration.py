"""A calibration: the schedule of about 30 steps, in integers, that the codec needs besides a model's weights.

Nothing is trained. The squared error of x_0-hat at each t, measured on training images, determines the variance
of each transition that minimizes the bound (Analytic-DPM, arXiv:2201.06503, with one number a step), and dynamic
programming finds the steps with the least bound (Watson et al., arXiv:2106.03802).
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
OVERHEAD, START = 1.06, 3.0  # a path has OVERHEAD * KL + START bits
CAPACITY = 0.5  # bits a pixel that a path codes well; one is the most it can have
OVERLOAD = 3.0  # what each bit beyond CAPACITY costs in later steps
PER_STEP = 10.0  # bits that a step costs beyond its KL, roughly, so that tiny images get few steps


class Calibration(NamedTuple):
    """Everything chosen by measurement. Step i goes from times[i] to times[i + 1]; times[0] = T and times[-1] = 1.

    The coefficients of the transition p are Q24: of_x_0 and of_x_t are those of Eq. 7, sigma is its deviation.
    'budget' is the mean length of a path, in bits. Only the encoder uses the last two: rho2, the variance
    of q divided by that of p, and the squared error of x_0-hat at each of the times, on [-1, 1].
    """

    times: PathTimes
    of_x_0: Int64[np.ndarray, " n"]
    of_x_t: Int64[np.ndarray, " n"]
    sigma: Int64[np.ndarray, " n"]
    budget: Int64[np.ndarray, " n"]
    rho2: Float64[np.ndarray, " n"]
    error: Float64[np.ndarray, " n+1"]


def snr(sched: Schedule) -> Float64[np.ndarray, " T"]:
    """Signal-to-noise ratio of x_1..x_T."""
    return sched.alpha_bar[1:] / (1.0 - sched.alpha_bar[1:])


def time_grid(sched: Schedule, points: int = 60) -> Int64[np.ndarray, " g"]:
    """Returns times nearly evenly spaced in log SNR, with 1 and T among them."""
    logs = np.log(snr(sched))
    targets = np.linspace(logs[0], logs[-1], min(points, sched.T))
    return np.unique(1 + np.abs(logs[:, None] - targets).argmin(axis=0))


def error_curve(
    sched: Schedule, times: Int64[np.ndarray, " g"], errors: Float64[np.ndarray, " g"]
) -> Float64[np.ndarray, " T"]:
    """Interpolates the measured errors to every t = 1..T, log error linear in log SNR."""
    logs = np.log(snr(sched))
    floor = np.maximum(errors, 1e-12)
    return np.exp(np.interp(-logs, -logs[times - 1], np.log(floor)))


def transition_costs(
    sched: Schedule, error: Float64[np.ndarray, " T"]
) -> Float64[np.ndarray, "T T"]:
    """KL(q || p), in bits a pixel, of the step from t to s < t at [t - 1, s - 1], with p's best variance."""
    ratio = snr(sched)
    gain = np.maximum(ratio[None, :] - ratio[:, None], 0.0) * error[:, None]
    bits = 0.5 * np.log2(1.0 + gain)
    return np.where(np.tri(len(ratio), k=-1, dtype=bool), bits, np.inf)


def cheapest_times(cost: Float64[np.ndarray, "T T"], max_steps: int) -> PathTimes:
    """Finds the cheapest way from T to 1 in at most 'max_steps' transitions."""
    T = len(cost)
    best = np.full(T, np.inf)
    best[0] = 0.0  # at s = 1 the chain has ended
    choices, totals = [], []
    for _ in range(min(max_steps, T - 1)):
        total = cost + best[None, :]
        choices.append(total.argmin(axis=1))
        best = total.min(axis=1)
        totals.append(best[-1])
    path = [T - 1]
    for choice in reversed(choices[: int(np.argmin(totals)) + 1]):
        path.append(int(choice[path[-1]]))
    return tuple(t + 1 for t in path)


def plan_steps(
    sched: Schedule, error: Float64[np.ndarray, " T"], dims: int, max_steps: int = STEPS
) -> Calibration:
    """Chooses steps, coefficients and budgets from the error at t = 1..T, for images with 'dims' dimensions."""
    bits = transition_costs(sched, error)
    overload = OVERLOAD * np.maximum(bits - CAPACITY, 0.0)
    times = cheapest_times(dims * (bits + overload) + PER_STEP, max_steps)
    t, s = np.array(times[:-1]), np.array(times[1:])
    abar_t, abar_s = sched.alpha_bar[t], sched.alpha_bar[s]
    beta = 1.0 - abar_t / abar_s  # the variance of q(x_t | x_s)
    of_x_0 = np.sqrt(abar_s) * beta / (1.0 - abar_t)
    of_x_t = np.sqrt(abar_t / abar_s) * (1.0 - abar_s) / (1.0 - abar_t)
    posterior = beta * (1.0 - abar_s) / (1.0 - abar_t)
    variance = posterior + of_x_0**2 * error[t - 1]
    kl = dims * bits[t - 1, s - 1]
    return Calibration(
        times=times,
        of_x_0=fixed_point(of_x_0),
        of_x_t=fixed_point(of_x_t),
        sigma=fixed_point(np.sqrt(variance)),
        budget=np.maximum(np.round(OVERHEAD * kl + START), 1).astype(np.int64),
        rho2=posterior / variance,
        error=error[np.array(times) - 1],
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
    """Returns the bytes of a value that are hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def file_path(directory: epath.Path, step: int, prefix: str = "") -> epath.Path:
    """The calibration of a step's weights; 'prefix' is Run.prefix."""
    return directory / "codec" / f"{step}-{prefix}codec.json"


def write(path: epath.Path, calibration: Calibration, facts: dict[str, Any]) -> None:
    files.write_json(path, {"calibration": to_json(calibration), "measured": facts})


def read(path: epath.Path) -> Calibration:
    """Reads a calibration. Raises ValueError if the file does not exist or is damaged."""
    if not path.exists():
        raise ValueError(f"{path} does not exist; write it with --mode=calibrate")
    try:
        record = json.loads(path.read_text())["calibration"]
        version = record.pop("version")
        if version != VERSION:
            raise ValueError(f"it has version {version}; this program reads {VERSION}")
        times = tuple(int(t) for t in record.pop("times"))
        integers = {name: np.array(record.pop(name), np.int64) for name in Calibration._fields[1:5]}
        floats = {name: np.array(value, np.float64) for name, value in record.items()}
        calibration = Calibration(times=times, **integers, **floats)
        check(calibration)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); move it away and calibrate again with --mode=calibrate"
        ) from error
    return calibration


def check(calibration: Calibration) -> None:
    """Raises ValueError for lists that do not describe a schedule."""
    steps = len(calibration.times) - 1
    lengths = {len(values) for values in calibration[1:6]}
    if lengths != {steps} or len(calibration.error) != steps + 1 or not 0 < steps < 256:
        raise ValueError("its lists differ in length")
    decreasing = np.all(np.diff(calibration.times) < 0)
    if calibration.times[-1] != 1 or not decreasing or calibration.budget.min() < 1:
        raise ValueError("its times do not fall to 1, or a budget is below 1")
