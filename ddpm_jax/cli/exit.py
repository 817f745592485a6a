"""How the program ends: errors in one line of words, and the exit status."""

import errno
import logging as python_logging
import os
import sys
import traceback
import warnings

from absl import flags, logging

from ddpm_jax.distributed import processes, rendezvous
from ddpm_jax.runtime import checkpoint


def quiet_libraries() -> None:
    """Libraries log nothing, or INFO with --verbosity=1: what they raise is what we tell."""
    if logging.get_verbosity() > logging.WARNING:
        logging.get_absl_logger().setLevel("INFO")  # Orbax's DEBUG is pages a checkpoint
        return
    logging.get_absl_logger().setLevel("CRITICAL")
    python_logging.getLogger("asyncio").setLevel("CRITICAL")  # tracebacks of damaged checkpoints
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    # What TensorStore still meets when a damaged file has been given up; nobody can catch it.
    sys.unraisablehook = lambda unraisable: None


def fail(error: BaseException, status: int) -> int:
    if flags.FLAGS.is_parsed() and flags.FLAGS.verbosity >= 1:
        traceback.print_exception(error)
    processes.failed(error, in_words(error), status)
    print(f"ddpm_jax: {in_words(error)}", file=sys.stderr)
    return status


def in_words(error: BaseException) -> str:
    """One line that says what is wrong and, for what happens to everybody, what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    no_room = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
    if any(words in text for words in no_room):
        return f"the disk is full: {text[:300]}. Make room; the same command then goes on"
    if "RESOURCE_EXHAUSTED" in text or isinstance(error, MemoryError):
        return f"out of memory: {text[:300]}. Lower the batch size of what was being done"
    ours = isinstance(error, ValueError | checkpoint.Damaged | rendezvous.Absent)
    return text if ours else f"{type(error).__name__}: {text}"
