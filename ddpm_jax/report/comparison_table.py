"""A comparison as text and numbers: its tables in Markdown, its record in JSON, and its plots."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddpm_jax.evaluation import results
from ddpm_jax.evaluation.results import Curve, Measurement
from ddpm_jax.report import comparison
from ddpm_jax.report.chart import with_error
from ddpm_jax.report.comparison import Comparison, Side
from ddpm_jax.runtime import plotting, text

ARROWS = {True: " ↑", False: " ↓"}  # of numbers of which higher or lower values are better


def rows(sides: Sequence[Side], found: Comparison) -> list[list[str]]:
    """Returns the table of numbers as text: the name, a value of each run, the best in asterisks."""
    table = []
    for name, values in found.numbers.items():
        winner = comparison.best(name, values)
        cells = [
            with_error(each.value, each.error) if each else comparison.UNSET for each in values
        ]
        cells = [f"**{cell}**" if i == winner else cell for i, cell in enumerate(cells)]
        arrow = "" if name.startswith("floor_") else ARROWS[results.higher_is_better(name)]
        table.append([results.title(name) + arrow, *cells])
    return table


def seed_rows(found: Comparison) -> list[list[str]]:
    """Returns mean and deviation over seeds: a row for each number, a cell for each group of several runs."""
    several = [group for group in found.groups if len(group.members) > 1]
    table = []
    for name, values in found.numbers.items():
        spreads = [comparison.over_seeds(group, values) for group in several]
        if any(spread and spread[1] for spread in spreads):  # not a number of real images
            cells = [
                f"{with_error(*each[:2])} (n = {each[2]})" if each else comparison.UNSET
                for each in spreads
            ]
            table.append([results.title(name), *cells])
    return table


def seed_head(found: Comparison) -> list[str]:
    return ["mean ± deviation", *(group.name for group in found.groups if len(group.members) > 1)]


def markdown(sides: Sequence[Side], found: Comparison) -> str:
    """Returns the tables: which fields differ, the numbers, and mean and deviation over seeds."""
    head = [side.name for side in sides]
    parts = [
        table(["", *head], [["step", *(f"{side.step}" for side in sides)], *field_rows(found)])
    ]
    if found.numbers:
        parts.append(table(["", *head], rows(sides, found)))
    if seed_rows(found):
        parts.append(table(seed_head(found), seed_rows(found)))
    return "\n\n".join([*parts, *comparison.cautions(found)]) + "\n"


def field_rows(found: Comparison) -> list[list[str]]:
    return [[name, *(f"{value}" for value in values)] for name, values in found.fields.items()]


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown, with columns of equal width."""
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    lines = [
        [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        for row in [head, rule, *body]
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def record(sides: Sequence[Side], found: Comparison) -> dict[str, Any]:
    """Returns the content of compare.json."""

    def written(each: Measurement | None) -> dict[str, Any] | None:
        return each and {"value": each.value, "error": each.error, "how": each.how}

    spreads = {
        group.name: {
            name: dict(zip(("mean", "deviation", "runs"), spread, strict=True))
            for name, values in found.numbers.items()
            if (spread := comparison.over_seeds(group, values))
        }
        for group in found.groups
        if len(group.members) > 1
    }
    return {
        "runs": {
            side.name: {
                "workdir": f"{side.run.directory}",
                "step": side.step,
                "weights": side.run.weights,
                "sampler": side.run.sample.chain.name,
            }
            for side in sides
        },
        "fields": found.fields,
        "numbers": {name: list(map(written, values)) for name, values in found.numbers.items()},
        "seeds": spreads,
    }


def panels(sides: Sequence[Side], found: Comparison) -> list[plotting.Plot]:
    """Returns the plots of a figure, means over seeds: the loss, and two numbers measured over training."""
    plots = []
    for title, curves in comparison.curve_sets(sides, found)[:3]:
        lines = [
            mean_line(label, [curve for name, curve in curves if name == label])
            for label in dict.fromkeys(name for name, _ in curves)
        ]
        plots.append(plotting.Plot("training step", title, lines[: len(plotting.COLOURS)]))
    return plots


def mean_line(label: str, curves: Sequence[Curve]) -> plotting.Line:
    """Returns the mean of curves at the steps that all of them have."""
    columns = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves]
    steps = sorted(set.intersection(*map(set, columns)))
    values = [float(np.mean([one[step] for one in columns])) for step in steps]
    return plotting.Line(steps, values, text.literal(label))
