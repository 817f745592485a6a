"""SIGTERM, Ctrl-C and SIGHUP: the first asks the program to save and stop, the second ends it at once."""

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
WORK = "the work in hand"
CONTINUE = "run the same command again to continue"
pending: list[str] = []  # names of received signals; global, as a process has one set of handlers
current_work: list[str] = []  # empty or one: what has to be done before the program can stop
sync_points = itertools.count()  # numbers of the points where the processes agree whether to stop


class Stopped(Exception):
    """The program has stopped after a signal and saved its work; the message says how to resume."""


def listen() -> Callable[[], None]:
    """Records signals until the function that it returns is called. Call it from the main thread."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    handlers = {
        number: signal.signal(number, lambda *_: None) for number in SIGNALS if heeds(number)
    }
    # A thread, because the main one runs no handler while XLA compiles, which may take minutes.
    thread = threading.Thread(target=watch, args=(read_end,), daemon=True)
    thread.start()

    def stop() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(write_end)  # which ends the thread
        thread.join(2.0)  # its line comes before the caller's next one
        pending.clear()
        current_work.clear()

    return stop


def heeds(number: signal.Signals) -> bool:
    """Returns whether a signal is listened to: not a SIGHUP that nohup has told the process to ignore."""
    return number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN


@contextmanager
def listening() -> Iterator[None]:
    """Records signals in the body, then restores the previous handlers."""
    stop = listen()
    try:
        yield
    finally:
        stop()


def watch(pipe: int) -> None:
    """Handles each signal number that arrives in the pipe, until its write end is closed."""
    received: list[str] = []
    while data := os.read(pipe, 1):
        number = data[0]
        name = signal.Signals(number).name
        if received and name == "SIGHUP":  # a terminal that closes sends several
            continue
        if received:
            report(f"ddpm_jax: ended at once by a second signal, {name}; {CONTINUE}")
            os._exit(128 + number)
        received.append(name)
        if has_peers():
            os.kill(os.getpid(), signal.SIGTERM)  # jax's handler informs the other processes
        else:
            pending.append(name)
        work = current_work[0] if current_work else WORK
        report(f"{name}: saving as soon as {work} is done; send it again to exit at once")
    os.close(pipe)


def has_peers() -> bool:
    """Returns whether jax has joined other processes; False while jax itself is being imported."""
    distributed = getattr(sys.modules.get("jax"), "distributed", None)
    return getattr(distributed, "is_initialized", bool)()


def report(text: str) -> None:
    """Prints a line to stderr, and waits at most a second for a reader that has stopped reading."""

    def write() -> None:
        with suppress(OSError, ValueError):  # Ctrl-C ends "| tee" too, and then nobody reads this
            print(f"\n{text}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(1.0)


def begin(work: str) -> None:
    """Notes what has to be done before the program can stop, for the line that a signal prints."""
    current_work[:] = [work]


def ask_to_stop(name: str) -> bool:
    """Asks the program to save and stop, as a signal of that name does; False if it was asked before."""
    if pending:
        return False
    pending.append(name)
    return True


def forget() -> None:
    """Forgets received signals, before a program starts and after it has stopped for one."""
    pending.clear()


def signal_name() -> str:
    """Returns the name of the first signal received, "" if there was none."""
    return pending[0] if pending else ""


def agree_to_stop() -> bool:
    """Returns whether to stop here, the same on all processes, which must all call it equally often.

    With several processes, jax records a SIGTERM to any of them and chooses a later call at which all
    of them stop.
    """
    import jax  # here, because the command line listens before it loads jax
    from jax.experimental import multihost_utils

    several = jax.process_count() > 1
    if several and multihost_utils.reached_preemption_sync_point(next(sync_points)):
        pending.append("SIGTERM")
    return bool(pending)


def check_together(where: str) -> None:
    """Raises Stopped if the processes agree to stop here. 'where' is as in 'check'."""
    agree_to_stop()
    check(where)


def check(where: str) -> None:
    """Raises Stopped if a signal was received. 'where' completes the message: "stopped by SIGINT ..."."""
    if signal_name():
        raise Stopped(f"stopped by {signal_name()} {where}; {CONTINUE}")
