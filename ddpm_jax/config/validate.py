"""Checks of a config section: its fields, their types and their ranges."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from ddpm_jax.run.run import Train
from ddpm_jax.runtime import files


def section(function: Callable, name: str, fields: Mapping[str, Any], *args) -> Any:
    """Calls 'function' with a section's fields.

    Raises ValueError for a field too few or too many, or of another type than 'function' declares.
    """
    try:
        inspect.signature(function).bind(*args, **fields)
    except TypeError as error:
        raise ValueError(f"config section {name}: {error}") from error
    declared = get_type_hints(function)
    for field, value in fields.items():
        if field in declared:
            check_type(f"{name}.{field}", value, declared[field])
    return function(*args, **fields)


def options(function: Callable, available: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the available options that a function takes by name."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in available.items() if name in names}


def check_type(field: str, value: Any, declared: Any) -> None:
    """Raises ValueError unless a value is what was declared; 1e5 is no int, True no number."""
    if get_origin(declared) is tuple:
        items = value if isinstance(value, tuple | list) else [None]
        fits = all(type(item) is get_args(declared)[0] for item in items)
    else:
        fits = type(value) is declared or (declared is float and type(value) is int)
    if not fits and (get_origin(declared) is tuple or declared in (bool, int, float, str)):
        wanted = "a tuple of int" if get_origin(declared) is tuple else declared.__name__
        raise ValueError(f"{field} is {value!r}; it must be {wanted}")


def choice(field: str, name: str, choices: Mapping[str, Any]) -> Any:
    if name not in choices:
        raise ValueError(f"{field} is {name!r}; {files.suggest(name, choices)}")
    return choices[name]


def at_least(lowest: int, section: str, **fields: int) -> None:
    for name, value in fields.items():
        if value < lowest:
            raise ValueError(f"{section}.{name} is {value}; it must be at least {lowest}")


def check_seed(field: str, seed: int) -> None:
    check_type(field, seed, int)
    if not 0 <= seed < 2**31:
        raise ValueError(f"{field} is {seed}; it must lie between 0 and 2^31 - 1")


def fields_of(chosen: Train, *names: str) -> dict[str, int]:
    return {name: getattr(chosen, name) for name in names}
