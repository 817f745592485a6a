"""What a call of main() changes in its process beside its result, put back when the call ends."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jax
from absl import flags

FLAGS = flags.FLAGS
LOGGERS = ("absl", "asyncio")
JAX_OPTIONS = ("jax_platforms", "jax_enable_compilation_cache")


@contextmanager
def restored() -> Iterator[None]:
    """Restores flags, sys.argv, logging, warnings and jax's options, so that main() can be called again.

    A call that has joined other processes cannot be followed by another: jax joins once a process.
    """
    argv, hook = sys.argv, sys.unraisablehook
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    options = {name: getattr(jax.config, name) for name in JAX_OPTIONS}
    try:
        with restored_flags(), warnings.catch_warnings():
            yield
    finally:
        sys.argv, sys.unraisablehook = argv, hook
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name, value in options.items():
            jax.config.update(name, value)


@contextmanager
def restored_flags() -> Iterator[None]:
    """Restores absl's flags, and deletes those that --config.FIELD has defined."""
    before = {name: dict(vars(FLAGS[name])) for name in FLAGS}
    parsed = FLAGS.is_parsed()
    try:
        yield
    finally:
        for name in [name for name in FLAGS if name not in before]:
            delattr(FLAGS, name)
        if FLAGS.is_parsed() and not parsed:
            FLAGS.unparse_flags()
        for name, state in before.items():
            vars(FLAGS[name]).clear()
            vars(FLAGS[name]).update(state)
