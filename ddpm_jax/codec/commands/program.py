"""The codec's modes as the command line calls them: with flags as keywords."""

from typing import Any

from ddpm_jax.codec.commands import compress as commands
from ddpm_jax.codec.commands.inputs import Request
from ddpm_jax.run.run import Run

DEFAULTS = {"output": None, "max_bytes": None, "nu": 12, "profile": "portable"}


def request(flags: dict[str, Any]) -> Request:
    """The flags of a mode, and the defaults of those that it has not."""
    return Request(**DEFAULTS | flags)


def check_compress(run: Run, **flags: Any) -> None:
    """Raises ValueError for pictures that cannot be compressed."""
    commands.check_compress(run, request(flags))


def compress(run: Run, **flags: Any) -> None:
    """Compresses pictures."""
    commands.compress(run, request(flags))


def check_decompress(run: Run, **flags: Any) -> None:
    """Raises ValueError for files that cannot be decoded."""
    commands.check_decompress(run, request(flags))


def decompress(run: Run, **flags: Any) -> None:
    """Restores pictures."""
    commands.decompress(run, request(flags))


def check_inspect(run: Run, **flags: Any) -> None:
    """Raises ValueError for files that are not compressed ones."""
    commands.check_inspect(run, request(flags))


def inspect(run: Run, **flags: Any) -> None:
    """Prints a line a file."""
    commands.inspect(run, request(flags))
