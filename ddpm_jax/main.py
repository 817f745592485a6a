"""python -m ddpm_jax.main, and ddpm: reads the command line, checks it, runs one mode's program."""

import os
import sys
from typing import NoReturn

from ddpm_jax.cli import command_line, exit, process_state
from ddpm_jax.runtime import signals


def main(argv: list[str]) -> int:
    """Returns the exit status, as 'command' does; can be called any number of times in a process."""
    with process_state.preserve(), signals.listening():
        return command(argv)


def command(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 2 wrong usage, 1 failed; --stopped_status after a signal."""
    try:
        parsed = command_line.parse(argv)
        from ddpm_jax.cli import execute  # with jax: what is mistyped is told before that is loaded

        return execute.execute(parsed)
    except ValueError as error:
        return exit.fail(error, 2)
    except Exception as error:
        return exit.fail(error, 1)


def run_process() -> NoReturn:
    """Runs the command line of this process, and ends the process."""
    signals.listen()  # to the very end of the process
    status = command(sys.argv)
    if status == 1:
        # Orbax's threads wait ten minutes for a save that has failed, and would hold the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def script() -> NoReturn:
    """Runs the console script ddpm, which finds modules in the current folder, as python -m does."""
    if not sys.flags.safe_path:
        sys.path.insert(0, "")
    run_process()


if __name__ == "__main__":
    run_process()
