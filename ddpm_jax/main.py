"""python -m ddpm_jax.main: flags, then one program a mode."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext

from absl import flags

from ddpm_jax.cli import exit, modes, process_state
from ddpm_jax.distributed import processes
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, lock, signals


def main(argv: list[str]) -> int:
    """The exit status, as 'command' has it; can be called any number of times in one process."""
    with process_state.restored(), signals.listening():
        return command(argv)


def command(argv: list[str]) -> int:
    """The exit status: 0 done, 2 wrong usage, 1 failed; --stopped_status if a signal stopped it."""
    try:
        run, mode = modes.prepare(argv)
        with lock.held(run.directory) if mode in ("train", "import") else nullcontext():
            signals.check("before anything was begun")
            status = start(modes.PROGRAMS[mode], run)
            processes.finished()
            return status
    except ValueError as error:
        return exit.fail(error, 2)
    except signals.Stopped as stopped:
        console.say(str(stopped))
        processes.finished()
        return flags.FLAGS.stopped_status
    except Exception as error:
        return exit.fail(error, 1)


def start(program: Callable[[Run], None], run: Run) -> int:
    """Past here what goes wrong is no wrong usage, but for a lock that another process holds."""
    try:
        program(run)
    except (signals.Stopped, lock.InUse):
        raise
    except Exception as error:
        return exit.fail(error, 1)
    return 0


if __name__ == "__main__":
    signals.listen()  # to the very end of the process
    status = command(sys.argv)
    if status == 1:
        # Orbax's threads wait ten minutes for a save that has failed; nothing is to be had of them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
