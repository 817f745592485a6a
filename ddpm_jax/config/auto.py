"""Fields that fit themselves: "auto" in a config file becomes what the run's images and schedule ask for.

config.json stores what was chosen, and a resume takes the stored choice.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

from ddpm_jax.run import record as records
from ddpm_jax.runtime import user_code
from ddpm_jax.samplers import ode_solvers

GRID_STEPS = 20  # of the solvers below: a grid takes seconds then
FEW_STEPS = ("ddim", *ode_solvers.SOLVERS)  # solvers whose samples need few steps
ATTENTION = 16  # the height at which the paper's networks have attention

Sections = dict[str, Any]


def fit_steps(sections: Sections, T: int, stored: Mapping[str, Any] | None) -> Sections:
    """Returns the sections with a number for each "auto" in train.grid.steps, sample.steps and eval.steps.

    It is T, or less for a grid whose solver takes few steps. 'stored' is the run's record, if it has one.
    """
    solver = find(sections, "train.grid").get("solver")
    grid = min(GRID_STEPS, T) if solver in FEW_STEPS else T
    choices = {"train.grid.steps": grid, "sample.steps": T, "eval.steps": T}
    return replace(sections, choices, stored)


def fit_attention(
    sections: Sections, shape: tuple[int, int, int], stored: Mapping[str, Any] | None
) -> Sections:
    """Returns the sections with heights for an "auto" in model.attention: the network's nearest to 16.

    Raises ValueError for a height that no level of the network has, unless the run was stored with it:
    earlier versions had no attention there.
    """
    if user_code.is_name(find(sections, "model").get("name")):
        return sections  # the fields are its own
    heights = network_heights(sections, shape)
    nearest = sorted(heights, key=lambda height: abs(math.log2(height / ATTENTION)))[:1]
    sections = replace(sections, {"model.attention": tuple(nearest)}, stored)
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
    sections: Sections, choices: Mapping[str, Any], stored: Mapping[str, Any] | None
) -> Sections:
    """Returns a copy of the sections in which each "auto" is the stored choice, or else the given one."""
    sections = copy.deepcopy(sections)
    before = records.flatten(stored["config"]) if stored else {}
    for field, choice in choices.items():
        name, _, key = field.rpartition(".")
        section = find(sections, name)
        if records.is_auto(section.get(key)):
            value = before.get(field, records.AUTO)
            value = choice if records.is_auto(value) else value
            section[key] = tuple(value) if isinstance(value, list) else value
    return sections


def find(sections: Sections, name: str) -> Sections:
    """Returns a section by its dotted name; {} if it is missing."""
    section: Any = sections
    for key in name.split("."):
        section = section.get(key, {}) if isinstance(section, dict) else {}
    return section if isinstance(section, dict) else {}
