"""The names of a data set's labels: their order, and how they are printed and looked up."""

import re
import unicodedata
from collections.abc import Sequence

from ddpm_jax.datasets.listing import escape
from ddpm_jax.runtime import files

SHOWN = 12  # names in a printed table


def of_folder(folder: str) -> str:
    """Returns the label of a class folder: its name, without the white space at its ends."""
    return unicodedata.normalize("NFC", escape(folder)).strip()


def natural_order(name: str) -> tuple:
    """Returns a sort key by which 2 comes before 10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if part.isdecimal() else part for part in parts], name


def check_distinct(folders: Sequence[str]) -> None:
    """Raises ValueError if two class folders have names that look alike, or a name is white space."""
    by_look: dict[str, str] = {}
    for folder in folders:
        look = "".join(c for c in of_folder(folder) if unicodedata.category(c) != "Cf").strip()
        if not look:
            raise ValueError(
                f"the class folder {ascii(folder)} has a name of white space; rename it"
            )
        other = by_look.setdefault(look, folder)
        if other != folder:
            raise ValueError(
                f"the class folders {ascii(other)} and {ascii(folder)} look alike; rename or merge them"
            )


def order(folders: Sequence[str], labels: Sequence[str] | None) -> list[str]:
    """Returns class folders in the order of their labels: those of a stored run, or the natural order.

    'labels' is None for a run from before label names were stored, when the order was by code points.
    """
    if labels is None:
        return sorted(folders)
    if set(labels) == {of_folder(folder) for folder in folders}:
        return sorted(folders, key=lambda folder: labels.index(of_folder(folder)))
    return sorted(folders, key=natural_order)


def table(names: Sequence[str]) -> str:
    """Returns "0: cat, 1: dog, ...", shortened if there are many names."""
    rows = [f"{number}: {name}" for number, name in enumerate(names)]
    if len(rows) > SHOWN:
        rows = [*rows[: SHOWN - 2], f"... {rows[-1]}"]
    return ", ".join(rows)


def are_numbers(names: Sequence[str]) -> bool:
    """Returns whether the names say no more than the labels: they are "0", "1", ..."""
    return list(names) == [str(number) for number in range(len(names))]


def label_of(name: str, names: Sequence[str]) -> int:
    """Returns the label of a name. Raises ValueError, with the names nearest to it, if it is unknown."""
    text = of_folder(name)
    if text not in names:
        hint = files.suggest(text, names)
        if len(names) > SHOWN and not hint.startswith("did you mean"):
            hint = f"the labels are {table(names)}"
        raise ValueError(f"sample.label is {name!r}; {hint}")
    return list(names).index(text)
