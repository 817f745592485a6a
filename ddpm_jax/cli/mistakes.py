"""The words for what is mistyped on the command line: a flag, its value, a field of the config."""

import difflib
import re
from collections.abc import Sequence

from ddpm_jax.cli import flag_table, suggestion


def describe_unknown(name: str, known: Sequence[str]) -> str:
    """Returns what is wrong with a flag that does not exist: the fields and flags that it may stand for."""
    fields = suggestion.suggest_fields(name, known)
    exact = [field for field in fields if name in (field, field.rpartition(".")[2])]
    near = difflib.get_close_matches(name, [flag.name for flag in flag_table.TABLE], n=2)
    exact.sort(key=lambda field: field.count("."))
    found = [f"--config.{field}" for field in exact or ([] if near else fields)]
    found = found or [f"--{flag}" for flag in near]
    hint = f"did you mean {' or '.join(found)}?" if found else "--help lists the flags"
    return f"unknown flag --{name}; {hint}"


def describe_value(text: str) -> str:
    """Returns absl's message about a flag's value, in our words if a field of the config has a wrong type."""
    kinds = {
        "invalid literal for int": "an integer",
        "could not convert": "a number",
        "('Non-boolean": "True or False",
    }
    for start, kind in kinds.items():
        wrong = re.match(rf"flag --config\.([\w.]+)=(.*?): {re.escape(start)}", text)
        if wrong:
            return f"{wrong[1]} is {wrong[2]!r}; it must be {kind}"
    return text


def choices(name: str, known: list[str]) -> str:
    """Returns a hint that lists the fields of the name's section, or all if there is no such section."""
    section = name.rpartition(".")[0]
    own = [field for field in known if section and field.startswith(f"{section}.")]
    return f"choose from {', '.join(own or known)}"
