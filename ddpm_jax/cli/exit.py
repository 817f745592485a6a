"""How the program ends: errors in one line of words, and the exit status.

Heavy modules are looked up, not imported: an error raised by one of them means that it is there.
"""

import errno
import logging as python_logging
import os
import sys
import traceback
import warnings

from absl import logging

# Errors beside ValueError whose message is ours: it says what is wrong and what to do.
OURS = {"ddpm_jax.runtime.checkpoint": "Damaged", "ddpm_jax.distributed.rendezvous": "Absent"}


class Usage(ValueError):
    """What the user typed is wrong."""


def quiet_libraries() -> None:
    """Libraries log nothing, or INFO with --verbosity=1: what they raise is what we print."""
    if logging.get_verbosity() > logging.WARNING:
        logging.get_absl_logger().setLevel("INFO")  # Orbax's DEBUG is pages a checkpoint
        return
    logging.get_absl_logger().setLevel("CRITICAL")
    python_logging.getLogger("asyncio").setLevel("CRITICAL")  # tracebacks of damaged checkpoints
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    # What TensorStore still meets after a damaged file has been given up; nobody can catch it.
    sys.unraisablehook = lambda unraisable: None


def fail(error: BaseException, status: int) -> int:
    """Prints an error as one line, tells the other processes, and returns the status."""
    if logging.get_verbosity() >= logging.DEBUG:
        traceback.print_exception(error)
    processes = sys.modules.get("ddpm_jax.distributed.processes")
    if processes:
        processes.fail(error, in_words(error), status)
    print(f"ddpm_jax: {in_words(error)}", file=sys.stderr)
    return status


def in_words(error: BaseException) -> str:
    """One line that says what is wrong and, for common causes, what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    no_room = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
    if any(words in text for words in no_room):
        return f"the disk is full: {text[:300]}. Make room; then the same command resumes"
    if "RESOURCE_EXHAUSTED" in text or isinstance(error, MemoryError):
        return f"out of memory: {text[:300]}. Lower the batch size of what was running"
    return text if is_ours(error) else f"{type(error).__name__}: {text}"


def is_ours(error: BaseException) -> bool:
    """Whether the error's message is written for the user."""
    loaded = [(sys.modules.get(module), name) for module, name in OURS.items()]
    ours = [getattr(module, name) for module, name in loaded if module]
    return isinstance(error, (ValueError, *ours))
