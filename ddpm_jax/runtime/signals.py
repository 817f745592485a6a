"""SIGTERM and Ctrl-C: the first asks a program to save and stop, a second ends it at once."""

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGTERM, signal.SIGINT)
pending: list[str] = []  # a process has one set of signals, hence one of these
sync_points = itertools.count()  # at which the processes ask each other


class Stopped(Exception):
    """A program has stopped because it was asked to, and saved what it had; the message says how to go on."""


def listen() -> Callable[[], None]:
    """Notes signals from now on, until what it returns is called. Call it from the main thread."""
    pipe, written = os.pipe()
    os.set_blocking(written, False)
    wakeup = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    # A thread, because the main one runs no handler while XLA compiles, for minutes sometimes.
    threading.Thread(target=watch, args=(pipe,), daemon=True).start()

    def stop() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(written)  # which ends the thread
        pending.clear()

    return stop


@contextmanager
def listening() -> Iterator[None]:
    """Notes signals for a while; then they do again what they did before."""
    stop = listen()
    try:
        yield
    finally:
        stop()


def watch(pipe: int) -> None:
    """Every signal puts its number into the pipe."""
    noted: list[str] = []
    while data := os.read(pipe, 1):
        number = data[0]
        name = signal.Signals(number).name
        if noted:
            os._exit(128 + number)
        noted.append(name)
        jax = sys.modules.get("jax")
        if jax and jax.distributed.is_initialized():
            os.kill(os.getpid(), signal.SIGTERM)  # to jax's own handler, which tells the others
        else:
            pending.append(name)
        with suppress(OSError):  # Ctrl-C ends "| tee" too, and then nobody hears
            print(f"\n{name}: saving; once more ends it at once", file=sys.stderr, flush=True)
    os.close(pipe)


def signal_name() -> str:
    """The signal's name, or "" as long as there was none."""
    return pending[0] if pending else ""


def agree_to_stop() -> bool:
    """Whether to stop here: the same on all processes, each of which must ask at the same places.

    Where there are several, jax notes a SIGTERM to any of them, and settles a place to come.
    """
    import jax  # here: the command line listens before it has loaded jax
    from jax.experimental import multihost_utils

    several = jax.process_count() > 1
    if several and multihost_utils.reached_preemption_sync_point(next(sync_points)):
        pending.append("SIGTERM")
    return bool(pending)


def check_together(done: str) -> None:
    """Raises Stopped if it is agreed to stop here."""
    agree_to_stop()
    check(done)


def check(done: str) -> None:
    """Raises Stopped if a signal has come."""
    if signal_name():
        raise Stopped(f"stopped by {signal_name()} {done}; the same command resumes from there")
