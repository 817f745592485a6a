"""Fields that fit themselves: "auto" in a config file becomes what a run's images, device and length ask for.

config.json stores what was chosen, and a resume takes the stored choice. A new choice is printed, with its reason.
"""

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ddpm_jax.run import record as records
from ddpm_jax.runtime import console, user_code
from ddpm_jax.samplers import ode_solvers

GRID_STEPS = 20  # of the solvers below: a grid takes seconds then
FEW_STEPS = ("ddim", *ode_solvers.SOLVERS)  # solvers whose samples need few steps
ATTENTION = 16  # the height at which the paper's networks have attention
LOWEST, LOWEST_ON_CPU = 4, 8  # heights down to which a network halves its images
AFFORDABLE = 40  # the height up to which attention in the middle of the network costs little
TALL = 128  # the height from which on each level has the first one's channels, as in the paper
CPU_CHANNELS = 32
CHANNELS = ((1000, 64), (10_000, 96))  # of networks for fewer pictures than the first number
PAPER = {"channels": 128, "warmup": 5000, "ema_decay": 0.9999}

Sections = dict[str, Any]


class Choice(NamedTuple):
    """What stands for an "auto", and why; without a reason nothing is printed."""

    value: Any
    reason: str = ""


class Images(NamedTuple):
    """What a network is chosen for."""

    shape: tuple[int, int, int]
    count: int | None  # of the training split; None if unknown  # pyright: ignore[reportIncompatibleMethodOverride]
    on_cpu: bool


def fit_steps(sections: Sections, T: int, stored: Mapping[str, Any] | None) -> Sections:
    """Returns the sections with a number for each "auto" of the optimizer and in the fields named steps.

    Samples have T steps, grids less if their solver takes few. 'stored' is the run's record, if it has one.
    """
    solver = find(sections, "train.grid").get("solver")
    grid = min(GRID_STEPS, T) if solver in FEW_STEPS else T
    length = find(sections, "train").get("steps")
    length = max(0, length) if isinstance(length, int) else 0  # other values are refused later
    choices = {
        "train.grid.steps": partial(Choice, grid),
        "sample.steps": partial(Choice, T),
        "eval.steps": partial(Choice, T),
        "optimizer.warmup": partial(choose_warmup, length),
        "optimizer.ema_decay": partial(choose_ema_decay, length),
    }
    return replace(sections, choices, stored)


def choose_warmup(steps: int) -> Choice:
    if steps // 25 >= PAPER["warmup"]:
        return Choice(PAPER["warmup"], "the paper's")
    return Choice(steps // 25, f"a twenty-fifth of {steps:,} steps; the paper has 5,000 of 800,000")


def choose_ema_decay(steps: int) -> Choice:
    """Returns a decay per step that averages over a twelfth of the steps: exp(-12) of it are initial weights."""
    horizon = max(1, steps // 12)
    decay = round(1.0 - float(f"{1.0 / horizon:.2g}"), 6)
    if decay >= PAPER["ema_decay"]:
        return Choice(PAPER["ema_decay"], "the paper's")
    young = 100.0 * PAPER["ema_decay"] ** steps
    reason = f"an average over about {float(f'{horizon:.2g}'):,.0f} of {steps:,} steps"
    return Choice(decay, f"{reason}; the paper's 0.9999 would keep {young:.0f} % initial weights")


def fit_network(sections: Sections, images: Images, stored: Mapping[str, Any] | None) -> Sections:
    """Returns the sections with values for an "auto" in the model's channels, multipliers and attention.

    Raises ValueError for images that cannot be halved often enough, and as 'fit_attention' does.
    """
    if user_code.is_name(find(sections, "model").get("name")):
        return sections  # the fields are its own
    choices = {
        "model.channels": partial(choose_channels, images),
        "model.multipliers": partial(choose_multipliers, images),
    }
    return fit_attention(replace(sections, choices, stored), images.shape, stored)


def choose_channels(images: Images) -> Choice:
    """Returns the width of the first level, on accelerators the wider the more pictures there are."""
    height, width, _ = images.shape
    count = "an unknown number of" if images.count is None else f"{images.count:,} training"
    pictures = f"{count} pictures of {width}x{height}"
    if images.on_cpu:
        return Choice(CPU_CHANNELS, f"{pictures} on a CPU, which has no time for a wider network")
    for limit, channels in CHANNELS:
        if images.count is not None and images.count < limit:
            return Choice(
                channels, f"{pictures}; the paper's 128 are for {CHANNELS[-1][0]:,} or more"
            )
    return Choice(PAPER["channels"], f"{pictures}; the paper's")


def choose_multipliers(images: Images) -> Choice:
    """Returns 1 for the first level and tall ones, 2 for the others, down to a height of 4, on CPUs 8.

    Raises ValueError if the lowest level is too high for attention.
    """
    (height, width, _), heights = images.shape, [images.shape[0]]
    lowest = LOWEST_ON_CPU if images.on_cpu else LOWEST
    while heights[-1] % 2 == width % 2 ** len(heights) == 0 and heights[-1] >= 2 * lowest:
        heights.append(heights[-1] // 2)
    if heights[-1] > AFFORDABLE:
        raise ValueError(
            f"images of {height}x{width} cannot be halved down to a height of {AFFORDABLE} or less; choose"
            " a data.image_size that is a multiple of 16, or set model.multipliers"
        )
    multipliers = tuple(1 if h == height or h >= TALL else 2 for h in heights)
    return Choice(multipliers, f"heights {', '.join(map(str, heights))}")


def fit_attention(
    sections: Sections, shape: tuple[int, int, int], stored: Mapping[str, Any] | None
) -> Sections:
    """Returns the sections with heights for an "auto" in model.attention: the network's nearest to 16.

    Raises ValueError for a height that no level of the network has, unless the run was stored with it:
    earlier versions had no attention there.
    """
    heights = network_heights(sections, shape)
    nearest = sorted(heights, key=lambda height: abs(math.log2(height / ATTENTION)))[:1]
    choice = Choice(tuple(nearest), f"the height nearest to {ATTENTION}, the paper's")
    sections = replace(sections, {"model.attention": lambda: choice}, stored)
    model = find(sections, "model")
    attention = model.get("attention")
    if isinstance(attention, int | list):  # the command line has 16 or [16] where "auto" was
        attention = tuple(attention) if isinstance(attention, list) else (attention,)
        model["attention"] = attention
    if not heights or not isinstance(attention, tuple | list) or set(attention) <= set(heights):
        return sections
    if not stored or list(attention) != records.flatten(stored["config"]).get("model.attention"):
        raise ValueError(
            f"this network's heights are {heights}, but model.attention is {tuple(attention)}; use some"
            ' of its heights, () for none, or "auto"'
        )
    return sections


def network_heights(sections: Sections, shape: tuple[int, int, int]) -> list[int]:
    """Returns the height of each level; [] if model.multipliers does not fit the images."""
    multipliers = find(sections, "model").get("multipliers", ())
    levels = len(multipliers) if isinstance(multipliers, tuple | list) else 0
    fits = levels and shape[0] % 2 ** (levels - 1) == 0
    return [shape[0] >> i for i in range(levels)] if fits else []


def replace(
    sections: Sections,
    choices: Mapping[str, Callable[[], Choice]],
    stored: Mapping[str, Any] | None,
) -> Sections:
    """Returns a copy of the sections in which each "auto" is the stored choice, or else a new one."""
    sections = copy.deepcopy(sections)
    before = records.flatten(stored["config"]) if stored else {}
    for field, choose in choices.items():
        name, _, key = field.rpartition(".")
        section = find(sections, name)
        if not records.is_auto(section.get(key)):
            continue
        value = before.get(field, records.AUTO)
        if records.is_auto(value):
            value, reason = choose()
            if reason:
                console.say(f"{field} {value}: {reason}")
        section[key] = tuple(value) if isinstance(value, list) else value
    return sections


def find(sections: Sections, name: str) -> Sections:
    """Returns a section by its dotted name; {} if it is missing."""
    section: Any = sections
    for key in name.split("."):
        section = section.get(key, {}) if isinstance(section, dict) else {}
    return section if isinstance(section, dict) else {}
