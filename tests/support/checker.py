"""The type checker of the tests: beartype, which compiles the checks of a nested function only once.

jaxtyping passes functions with the signature to check and an empty body. Those of a nested function,
which is defined at each call of the outer one, differ in nothing.
"""

from collections.abc import Callable

from beartype import beartype

compiled: dict[tuple, Callable] = {}


def check(function: Callable) -> Callable:
    """Returns the function with its arguments and its result checked."""
    if "<locals>" not in function.__qualname__ or function.__defaults__ or function.__kwdefaults__:
        return beartype(function)
    code, annotations = function.__code__, function.__annotations__
    key = (
        *(function.__module__, function.__qualname__, code.co_code, code.co_varnames),
        tuple((name, id(annotation)) for name, annotation in annotations.items()),
    )
    if key not in compiled:
        compiled[key] = beartype(function)  # keeps the annotations, and so their ids, alive
    return compiled[key]
