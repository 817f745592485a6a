"""The defaults that the reference shows, read from configs/."""

import functools
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ddpm_jax.config import config_file
from ddpm_jax.config.reference import sections

PAPER = (
    "cifar10.py",
    "image_folder.py",
    "cifar10_sde.py:ve",
)  # the paper's run, then those with other fields
DIGITS = ("digits.py", "digits_sde.py:ve")


class Default(NamedTuple):
    """A field's value in one of the configs, as a user types it."""

    value: str
    config: str


@functools.cache
def paper() -> dict[str, Default]:
    """Returns each field's value in the paper's run, or else in the first config that has the field."""
    return read(PAPER)


@functools.cache
def digits() -> dict[str, Default]:
    """Returns the fields in which digits.py, or its SDE, differs from 'paper'."""
    return {name: own for name, own in read(DIGITS).items() if own.value != paper()[name].value}


def read(specs: tuple[str, ...]) -> dict[str, Default]:
    """Returns the value of each field in the first of the configs that has it."""
    found: dict[str, Default] = {}
    for spec in specs:
        config = config_file.load(str(config_file.package_folder() / spec))
        for name in sections.FIELDS:
            value = find(config, name)
            if value is not None and name not in found:
                found[name] = Default(
                    value if value and isinstance(value, str) else repr(value), spec
                )
    return found


def find(config: ConfigDict, name: str) -> Any:
    """Returns the value of a field; None if the config does not have it."""
    value: Any = config
    for key in name.split("."):
        if not isinstance(value, ConfigDict) or key not in value:
            return None
        value = value[key]
    return value
