"""SIGTERM and Ctrl-C: the first asks a program to save and stop, a second ends it at once."""

import os
import signal
import sys
import threading

SIGNALS = (signal.SIGTERM, signal.SIGINT)
received: list[str] = []  # a process has one set of signals, hence one of these


class Stopped(Exception):
    """A program has stopped because it was asked to, and saved what it had; the message says how to go on."""


def listen() -> None:
    """From now on signals are noted. Call it from the main thread."""
    pipe, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    # A thread, because the main one runs no handler while XLA compiles, for minutes sometimes.
    threading.Thread(target=watch, args=(pipe,), daemon=True).start()


def watch(pipe: int) -> None:
    """Every signal puts its number into the pipe."""
    while number := os.read(pipe, 1):
        if number[0] in SIGNALS:
            if received:
                os._exit(128 + number[0])
            received.append(signal.Signals(number[0]).name)
            print(
                f"\n{received[0]}: saving; once more ends it at once", file=sys.stderr, flush=True
            )


def asked() -> str:
    """The signal's name, or "" as long as there was none."""
    return received[0] if received else ""


def check(done: str) -> None:
    """Raises Stopped if a signal has come."""
    if asked():
        raise Stopped(f"stopped by {asked()} {done}; the same command goes on from there")
