"""The codec's modes as the command line calls them: with flags as keywords."""

from typing import Any

from ddpm_jax.codec.commands import compress as commands
from ddpm_jax.codec.commands.inputs import Request
from ddpm_jax.run.run import Run


def check_compress(run: Run, **flags: Any) -> None:
    """Raises ValueError for pictures that cannot be compressed."""
    commands.check_compress(run, Request(**flags))


def compress(run: Run, **flags: Any) -> None:
    """Compresses pictures."""
    commands.compress(run, Request(**flags))


def check_decompress(run: Run, **flags: Any) -> None:
    """Raises ValueError for files that cannot be decoded."""
    commands.check_decompress(run, Request(**flags))


def decompress(run: Run, **flags: Any) -> None:
    """Decompresses pictures."""
    commands.decompress(run, Request(**flags))


def check_inspect(run: Run, **flags: Any) -> None:
    """Raises ValueError for files that cannot be described."""
    commands.check_inspect(run, Request(**flags))


def inspect(run: Run, **flags: Any) -> None:
    """Prints a line for each file."""
    commands.inspect(run, Request(**flags))
