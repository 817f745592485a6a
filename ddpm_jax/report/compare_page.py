"""The page of a comparison."""

from collections.abc import Iterable, Sequence
from html import escape

from etils import epath

from ddpm_jax.report import chart, comparison, comparison_table, contents, pictures
from ddpm_jax.report import page as pages
from ddpm_jax.report.comparison import Comparison, Side


def page(sides: Sequence[Side], found: Comparison, folder: epath.Path, seed: int) -> str:
    """Returns compare.html, with the samples that lie in the folder."""
    names = [side.name for side in sides]
    title = " / ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"
    head = f"<header><h1>{escape(title)}</h1>{pages.paragraph('A comparison of runs.', 'lead')}</header>\n"
    return pages.page(
        f"{title}: comparison",
        [
            head,
            contents.caution_list(comparison.cautions(found)),
            numbers(names, sides, found),
            curves(sides, found),
            samples(names, folder, seed),
            fields(names, sides, found),
            commands(sides),
        ],
    )


def numbers(names: list[str], sides: Sequence[Side], found: Comparison) -> str:
    """The tables of numbers; the best of each row is bold."""
    if not found.numbers:
        return pages.section("Numbers", pages.paragraph("No number was measured at these steps."))
    parts = [table(["", *names], comparison_table.rows(sides, found))]
    note = "↓ lower, ↑ higher is better. A bound has its standard error over images, a score its deviation. The best of a row is bold if it is better by more than that."
    parts.append(pages.paragraph(note, "note"))
    spread = comparison_table.seed_rows(found)
    if spread:
        parts.append("<h3>Over seeds</h3>" + table(comparison_table.seed_head(found), spread))
    return pages.section("Numbers", *parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of text; a cell in asterisks is bold."""

    def cell(text: str) -> str:
        plain = escape(text.strip("*"))
        return f"<b>{plain}</b>" if text.startswith("**") else plain

    return pages.table(head, [[cell(text) for text in row] for row in rows])


def curves(sides: Sequence[Side], found: Comparison) -> str:
    charts = []
    for title, lines in comparison.curve_sets(sides, found):
        marked = title != "loss"
        series = [
            chart.Series(name, curve.steps, curve.values, curve.errors, marked)
            for name, curve in lines
        ]
        charts.append(chart.line_chart(title, series))
    return pages.section(
        "Curves", f'<div class="pair">{"".join(charts)}</div>' if any(charts) else ""
    )


def samples(names: Sequence[str], folder: epath.Path, seed: int) -> str:
    sheet = pictures.small(folder / "samples.png")
    if sheet is None:
        return ""
    words = (
        f"A row for each run. Images of one column start from the same noise, that of seed {seed}, if their"
        " sizes are equal."
    )
    tag = sheet.tag(f"samples of {', '.join(names)}, one row each", "sheet")
    return pages.section("Samples", pages.paragraph(words), tag)


def fields(names: list[str], sides: Sequence[Side], found: Comparison) -> str:
    """What differs in the configs."""
    rows = [["step", *(f"{side.step:,}" for side in sides)], *comparison_table.field_rows(found)]
    return pages.section("What differs", table(["field", *names], rows))


def commands(sides: Sequence[Side]) -> str:
    lines = [f"ddpm report {side.run.directory}" for side in sides]
    return pages.section("The runs", pages.commands(lines))
