"""What several runs have in common and where they differ, from what their files say."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ddpm_jax.evaluation import results
from ddpm_jax.evaluation.results import Curve, Measurement
from ddpm_jax.run import record as records
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import plotting

UNSET = "-"  # a field that a run's config does not have, and a number that was not measured
SEED = "seed"  # the field in which runs of one group may differ
# Fields in which runs of one group may differ too: they decide none of the numbers that training leads to.
FREE = tuple(prefix for prefix in records.CHANGEABLE if prefix != "train.steps")


class Side(NamedTuple):
    """One of the compared runs: what its files say of it."""

    name: str
    run: Run
    step: int
    training: Mapping[str, Curve]
    measured: Mapping[str, Curve]
    numbers: Mapping[str, Measurement]  # of 'step'


class Group(NamedTuple):
    """Runs that differ in their seeds alone, by their places; one that no other is like is a group too."""

    name: str
    members: list[int]


class Comparison(NamedTuple):
    """Where runs differ: fields by name, and numbers by name, each with a value of every run."""

    fields: dict[str, list[Any]]
    numbers: dict[str, list[Measurement | None]]
    groups: list[Group]


def compare(sides: Sequence[Side]) -> Comparison:
    configs = [records.flatten(side.run.config) for side in sides]
    names = dict.fromkeys(name for config in configs for name in config)
    fields = {name: [config.get(name, UNSET) for config in configs] for name in names}
    different = {
        name: values for name, values in fields.items() if any(v != values[0] for v in values)
    }
    measured = dict.fromkeys(name for side in sides for name in side.numbers)
    numbers = {name: [side.numbers.get(name) for side in sides] for name in measured}
    return Comparison(different, numbers, groups(sides, different))


def names(runs: Sequence[Run]) -> list[str]:
    """Returns the names of the runs' folders, with as many parents as it takes to tell them apart."""
    parts = [run.directory.parts for run in runs]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(runs) and depth < max(map(len, parts)):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def groups(sides: Sequence[Side], different: Mapping[str, Sequence[Any]]) -> list[Group]:
    """Groups the runs read at one step whose configs differ in the seed alone; a copy of a run is apart."""
    fields = [name for name in different if name != SEED and not name.startswith(FREE)]
    found: dict[str, list[int]] = {}
    for i, side in enumerate(sides):
        key = f"{[different[name][i] for name in fields]} {side.step} {side.run.weights}"
        seeds = [sides[j].run.seed for j in found.get(key, ())]
        found.setdefault(f"{key} {i}" if side.run.seed in seeds else key, []).append(i)
    return [Group(group_name(sides, members), members) for members in found.values()]


def group_name(sides: Sequence[Side], members: Sequence[int]) -> str:
    """Returns the names of a group's runs, and how many seeds it has if there are several."""
    named = ", ".join(sides[i].name for i in members[:3]) + (", ..." if len(members) > 3 else "")
    return f"{named} ({len(members)} seeds)" if len(members) > 1 else named


def newest(found: Sequence[Measurement]) -> dict[str, Measurement]:
    """Returns the first, which is the newest, measurement of each name."""
    numbers: dict[str, Measurement] = {}
    for each in found:
        numbers.setdefault(each.name, each)
    return numbers


def best(name: str, values: Sequence[Measurement | None]) -> int | None:
    """Returns the place of the best of two or more values; None if none is better by more than its error.

    The error of a difference is taken for that of two independent numbers. Of floors none is better.
    """
    known = {i: each for i, each in enumerate(values) if each and math.isfinite(each.value)}
    if len(known) < 2 or name.startswith("floor_"):
        return None
    order = sorted(known, key=lambda i: known[i].value, reverse=results.higher_is_better(name))
    first, second = known[order[0]], known[order[1]]
    error = math.hypot(first.error or 0.0, second.error or 0.0)
    return order[0] if abs(first.value - second.value) > error else None


def differs_in_measuring(values: Sequence[Measurement | None]) -> list[str]:
    """Returns the facts in which measurements of one name differ, other than their seed: 'sampler', ..."""
    hows = [each.how for each in values if each]
    facts = dict.fromkeys(fact for how in hows for fact in how if fact != SEED)
    return [fact for fact in facts if len({f"{how.get(fact)}" for how in hows}) > 1]


def over_seeds(
    group: Group, values: Sequence[Measurement | None]
) -> tuple[float, float, int] | None:
    """Returns the mean and the standard deviation of a number over a group's seeds, and how many have it."""
    known = [each.value for each in (values[i] for i in group.members) if each]
    if len(known) < 2:
        return None
    return float(np.mean(known)), float(np.std(known, ddof=1)), len(known)


def cautions(found: Comparison) -> list[str]:
    """Returns a sentence for each number that was not measured alike in all runs."""
    facts: dict[str, list[str]] = {}
    for name, values in found.numbers.items():
        different = differs_in_measuring(values)
        if different:
            facts.setdefault(", ".join(different), []).append(results.title(name))
    return [
        f"Not measured alike ({fact} differs): {'; '.join(titles)}."
        for fact, titles in facts.items()
    ]


def curve_sets(
    sides: Sequence[Side], found: Comparison
) -> list[tuple[str, list[tuple[str, Curve]]]]:
    """Returns the curves to lay over each other: the loss, then numbers measured at several steps of a run."""
    names = {i: group.name for group in found.groups for i in group.members}
    sets = [
        (
            "loss",
            [
                (names[i], side.training["loss"])
                for i, side in enumerate(sides)
                if "loss" in side.training
            ],
        )
    ]
    for name in dict.fromkeys(name for side in sides for name in side.measured):
        curves = [
            (names[i], side.measured[name]) for i, side in enumerate(sides) if name in side.measured
        ]
        if any(len(curve.steps) > 1 for _, curve in curves):
            sets.append((results.title(name), curves))
    return [each for each in sets if each[1]]


def equal_sizes(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns image sets enlarged to the size of the largest, pixels as squares, with its channels."""
    height, width = (max(each.shape[axis] for each in images) for axis in (1, 2))
    made = []
    for each in images:
        coloured = plotting.rgb(each[None])[0]
        made.append(
            np.stack(
                [
                    np.asarray(
                        Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
                    )
                    for image in coloured
                ]
            )
        )
    return made
