"""Checks of a config section: the names, types and ranges of its fields."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from ddpm_jax.runtime import files, user_code


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
        is_tuple = get_origin(declared) is tuple
        item = get_args(declared)[0] if is_tuple else declared
        expected = f"a tuple of {item.__name__}" if is_tuple else item.__name__
        raise ValueError(f"{field} is {value!r}; it must be {expected}")


def choice(field: str, name: str, choices: Mapping[str, Any]) -> Any:
    """Returns the choice of that name. Raises ValueError, with the names nearest to it, without one."""
    if name not in choices:
        raise ValueError(f"{field} is {name!r}; {files.suggest(name, choices)}")
    return choices[name]


def named(field: str, name: str, choices: Mapping[str, Any], kind: Any = Callable) -> Any:
    """Returns the choice of that name or, for "module:object", that object of the user's, of a kind.

    Raises ValueError, as 'choice' does, and for an object of another kind.
    """
    if ":" not in name:
        return choice(field, name, choices)
    return check_kind(f"{field} {name} is", user_code.load(field, name), kind)


def named_function(
    field: str, name: str, choices: Mapping[str, Any], returns: Any, attributes: Sequence[str] = ()
) -> Callable:
    """Returns the function of that name, as 'named' does; results of the user's are checked."""
    function = named(field, name, choices)
    if ":" not in name:
        return function

    @functools.wraps(function)
    def checked(*args, **fields):
        result = check_kind(f"{field} {name} returned", function(*args, **fields), returns)
        missing = [each for each in attributes if not hasattr(result, each)]
        if missing:
            raise ValueError(
                f"{field} {name} returned a {type(result).__name__} without the field"
                f" {', '.join(missing)}; it must have {', '.join(attributes)}"
            )
        return result

    return checked


def check_kind(subject: str, value: Any, kind: Any) -> Any:
    """Returns a value of user code. Raises ValueError if it is of another kind."""
    if not isinstance(value, kind):
        expected = "a function" if kind is Callable else f"of type {kind.__name__}"
        raise ValueError(f"{subject} {value!r:.80}; it must be {expected}")
    return value


def call(field: str, function: Callable, available: Mapping[str, Any], *args: Any) -> Any:
    """Calls a function with 'args' and those of the available options that are its parameters.

    Raises ValueError if it needs others.
    """
    chosen = options(function, available)
    try:
        inspect.signature(function).bind(*args, **chosen)
    except TypeError as error:
        raise ValueError(f"{field}: {error}; by name it may take {', '.join(available)}") from error
    return function(*args, **chosen)


def at_least(lowest: int, section: str, **fields: int | float) -> None:
    """Raises ValueError for a field of the section that is below 'lowest'."""
    for name, value in fields.items():
        if value < lowest:
            raise ValueError(f"{section}.{name} is {value}; it must be at least {lowest}")


def check_seed(field: str, seed: int) -> None:
    """Raises ValueError unless a seed is an int in [0, 2^31)."""
    check_type(field, seed, int)
    if not 0 <= seed < 2**31:
        raise ValueError(f"{field} is {seed}; it must lie between 0 and 2^31 - 1")
