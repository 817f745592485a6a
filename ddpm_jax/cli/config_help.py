"""--help=config: the config reference as plain text, whole or of one section or field."""

import textwrap
from collections.abc import Iterator

from ddpm_jax.cli import suggestion
from ddpm_jax.cli.exit import Usage
from ddpm_jax.config.reference import defaults, sections
from ddpm_jax.config.reference.entry import Field, list_values

ALL = "config"
HEAD = """Every field of a config, with its default: its value in configs/cifar10.py, the paper's run.

  --config.FIELD=VALUE changes a field for a run.
  auto fits itself to the run: to the image size, to T, to the device. config.json stores it.
"""


def help_text(topic: str) -> str:
    """Returns the reference of "config", or of a section or field, such as train or train.keep_every.

    Raises Usage for any other topic.
    """
    name = topic.removeprefix(f"{ALL}.")
    chosen = list(sections.FIELDS.values()) if name == ALL else sections.within(name)
    if not chosen:
        near = suggestion.suggest_fields(name, sections.names())
        hint = f"did you mean {' or '.join(near)}?" if near else f"--help={ALL} lists all"
        raise Usage(f"--help={topic}: a config has no section or field of this name; {hint}")
    lines = [HEAD] if name == ALL else []
    for section in sections.SECTIONS:
        if name in (ALL, section.name):
            lines += [*wrap(f"{section.name}: {section.introduction}"), ""]
        for field in section.fields:
            lines += describe(field) if field in chosen else ()
    return "\n".join(lines).rstrip()


def describe(field: Field) -> Iterator[str]:
    """Yields the lines of a field: its name and default, its meaning, its values."""
    default, other = defaults.paper()[field.name], defaults.digits().get(field.name)
    notes = [] if default.config == defaults.PAPER[0] else [f"in {default.config}"]
    notes += [f"digits.py: {other.value}"] if other else []
    notes += ["may change on resume"] if field.changeable else []
    yield f"  {field.name} = {default.value}" + (f"  [{'; '.join(notes)}]" if notes else "")
    yield from wrap(field.meaning, 6)
    if field.choices:
        for choice in field.choices:
            yield from wrap(f"{choice.name or repr(''):<20} {choice.meaning}", 8, 29)
    else:
        yield from wrap(f"Values: {list_values(field)}.", 6)
    yield ""


def wrap(text: str, first: int = 0, rest: int = 0) -> list[str]:
    """Wraps a text of the reference at 100 columns; 'first' indents its first line, 'rest' the others."""
    return textwrap.wrap(
        text.replace("`", ""),
        width=100,
        initial_indent=" " * first,
        subsequent_indent=" " * max(first, rest),
        break_on_hyphens=False,
    )
