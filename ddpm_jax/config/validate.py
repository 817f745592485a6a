"""Checks of a config section: the names, types and ranges of its fields."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from ddpm_jax.runtime import files


def section(function: Callable, name: str, fields: Mapping[str, Any], *args) -> Any:
    """Calls 'function' with 'args' and, by keyword, a section's fields; returns its result.

    Raises ValueError for a missing or an unknown field, or one of another type than 'function'
    declares.
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
    """Returns the available options that are parameters of 'function'."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in available.items() if name in names}


def check_type(field: str, value: Any, declared: Any) -> None:
    """Raises ValueError unless a value has its declared type; 1e5 is not an int, True not a number."""
    if get_origin(declared) is tuple:
        items = value if isinstance(value, tuple | list) else [None]
        fits = all(type(item) is get_args(declared)[0] for item in items)
    else:
        fits = type(value) is declared or (declared is float and type(value) is int)
    if not fits and (get_origin(declared) is tuple or declared in (bool, int, float, str)):
        expected = "a tuple of int" if get_origin(declared) is tuple else declared.__name__
        raise ValueError(f"{field} is {value!r}; it must be {expected}")


def choice(field: str, name: str, choices: Mapping[str, Any]) -> Any:
    """Returns the choice of that name. Raises ValueError, with the names nearest to it, without one."""
    if name not in choices:
        raise ValueError(f"{field} is {name!r}; {files.suggest(name, choices)}")
    return choices[name]


def at_least(lowest: int, section: str, **fields: int) -> None:
    """Raises ValueError for a field of the section that is below 'lowest'."""
    for name, value in fields.items():
        if value < lowest:
            raise ValueError(f"{section}.{name} is {value}; it must be at least {lowest}")


def check_seed(field: str, seed: int) -> None:
    """Raises ValueError unless a seed is an int in [0, 2^31)."""
    check_type(field, seed, int)
    if not 0 <= seed < 2**31:
        raise ValueError(f"{field} is {seed}; it must lie between 0 and 2^31 - 1")
