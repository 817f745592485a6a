"""Restores the global state of the process that a call of main() changes."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from absl import logging as absl_logging

LOGGERS = ("absl", "asyncio")
JAX_OPTIONS = ("jax_platforms", "jax_enable_compilation_cache")


@contextmanager
def preserve() -> Iterator[None]:
    """Restores logging, warnings and the hook for uncatchable errors after the body."""
    hook, verbosity = sys.unraisablehook, absl_logging.get_verbosity()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.unraisablehook = hook
        absl_logging.set_verbosity(verbosity)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def preserve_jax() -> Iterator[None]:
    """Restores jax's options and the TPU compiler's environment after the body.

    No call can follow one that has joined other processes, as jax joins once per process.
    """
    import jax

    from ddpm_jax.profiling import topology

    options = {name: getattr(jax.config, name) for name in JAX_OPTIONS}
    environment = {name: os.environ.get(name) for name in topology.ENVIRONMENT}
    try:
        yield
    finally:
        for name, value in options.items():
            jax.config.update(name, value)
        for name, text in environment.items():
            os.environ.pop(name, None)
            if text is not None:
                os.environ[name] = text
