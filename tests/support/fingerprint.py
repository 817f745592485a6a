"""What a run was built from, as text: two runs with the same text do the same.

A function is where it was defined and what it holds on to of the call that made it. Python keeps of those
names only the ones that the function uses, so a number that is taken and not used is not in the text.
"""

import dataclasses
import functools
import inspect
import types

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh


def of(value) -> str:
    """Raises TypeError for a kind of object that it cannot tell apart from another of its kind."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"{type(value).__name__}({listed(value._asdict())})"
    if isinstance(value, dict):
        return f"{{{listed(value)}}}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(of, value))})"
    if isinstance(value, np.ndarray | jax.Array):
        return f"{value.dtype}{value.shape}:{np.asarray(value).tobytes().hex()}"
    if isinstance(value, Mesh):
        return f"Mesh({value.axis_names}, {[device.id for device in value.devices.flat]})"
    if isinstance(value, nn.Module):
        fields = [field.name for field in dataclasses.fields(value)]
        named = {name: getattr(value, name) for name in fields if name not in ("parent", "name")}
        return f"{type(value).__name__}({listed(named)})"
    if isinstance(value, functools.partial):
        return f"partial({of(value.func)}, {of(value.args)}, {of(value.keywords)})"
    if isinstance(value, types.FunctionType):
        return of_function(inspect.unwrap(value))
    if isinstance(value, type | types.BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    if " at 0x" in repr(value):
        raise TypeError(f"{value!r} has no fingerprint")
    return repr(value)


def listed(fields: dict) -> str:
    return ", ".join(f"{name}={of(value)}" for name, value in fields.items())


def of_function(function: types.FunctionType) -> str:
    code = function.__code__
    held = dict(inspect.getclosurevars(function).nonlocals)
    held |= {f"default {i}": value for i, value in enumerate(function.__defaults__ or ())}
    held |= function.__kwdefaults__ or {}
    return f"{code.co_filename}:{code.co_firstlineno} {function.__qualname__}[{listed(held)}]"
