"""The types of the reference's entries. In their texts `backticks` mark what a user types."""

from typing import NamedTuple


class Choice(NamedTuple):
    """One of the names that a field takes."""

    name: str
    meaning: str


class Field(NamedTuple):
    """A field of a config."""

    name: str  # with its section's, as in train.grid.steps
    meaning: str
    values: str = ""  # type, range and unit in words; "" if 'choices' lists all values
    choices: tuple[Choice, ...] = ()
    changeable: bool = False  # may differ when a run is resumed: record.CHANGEABLE


class Section(NamedTuple):
    """A section of a config, with those inside it."""

    name: str
    introduction: str
    fields: tuple[Field, ...]


def changeable(*fields: Field) -> tuple[Field, ...]:
    """Returns the fields, all marked as changeable."""
    return tuple(field._replace(changeable=True) for field in fields)


def list_values(field: Field) -> str:
    """Returns a field's values in words."""
    return field.values or ", ".join(f"`{each.name or repr('')}`" for each in field.choices)
