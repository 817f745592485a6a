"""The end of the program: errors as one line, and the exit status.

Heavy modules are looked up in sys.modules, not imported: they are loaded if they raised the error.
"""

import errno
import logging as python_logging
import os
import sys
import traceback
import warnings

from absl import logging

# Errors, besides ValueError, whose messages are written for users.
OWN_ERRORS = {
    "ddpm_jax.runtime.checkpoint": "Damaged",
    "ddpm_jax.distributed.rendezvous": "Absent",
    "ddpm_jax.weights.hub": "Unreachable",
}


class Usage(ValueError):
    """What the user typed is wrong."""


def quiet_libraries() -> None:
    """Silences the libraries' logs, as their errors are printed; --verbosity=1 keeps INFO."""
    if logging.get_verbosity() > logging.WARNING:
        logging.get_absl_logger().setLevel("INFO")  # Orbax's DEBUG log is pages per checkpoint
        return
    logging.get_absl_logger().setLevel("CRITICAL")
    python_logging.getLogger("asyncio").setLevel("CRITICAL")  # tracebacks of damaged checkpoints
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    # TensorStore raises these in its threads after a damaged file; they cannot be caught.
    sys.unraisablehook = lambda unraisable: None


def fail(error: BaseException, status: int) -> int:
    """Prints an error as one line, reports it to the other processes, and returns the status."""
    if logging.get_verbosity() >= logging.DEBUG:
        traceback.print_exception(error)
    processes = sys.modules.get("ddpm_jax.distributed.processes")
    if processes:
        processes.fail(error, describe(error), status)
    print(f"ddpm_jax: {describe(error)}", file=sys.stderr)
    return status


def describe(error: BaseException) -> str:
    """Returns one line that says what is wrong and, for common causes, what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    disk_full = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
    if any(message in text for message in disk_full):
        return f"the disk is full: {text[:300]}. Free some space; then the same command resumes"
    if "RESOURCE_EXHAUSTED" in text or isinstance(error, MemoryError):
        remedy = "Raise parallel.accumulation in training; else lower sample.batch_size or eval.batch_size"
        return f"out of memory: {text[:300]}. {remedy}"
    return text if has_own_message(error) else f"{type(error).__name__}: {text}"


def has_own_message(error: BaseException) -> bool:
    """Returns whether the error's message is written for users."""
    loaded = [(sys.modules.get(module), name) for module, name in OWN_ERRORS.items()]
    own_errors = [getattr(module, name) for module, name in loaded if module]
    return isinstance(error, (ValueError, *own_errors))
