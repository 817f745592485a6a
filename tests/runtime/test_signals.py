"""What a signal does to a program that listens, in this process; real processes are killed in test_kills."""

import os
import signal
import sys
import time
import types

import pytest

from ddpm_jax.runtime import console, signals


@pytest.fixture(autouse=True)
def heeded():
    """SIGHUP as it is without nohup, which the tests may run under."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def ended(monkeypatch):
    """The statuses with which this process would have been ended."""
    statuses = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    return statuses


def send(number, condition):
    os.kill(os.getpid(), number)
    wait_for(condition)


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_the_first_says_what_it_waits_for_and_the_second_that_it_ends(name, ended, capfd):
    with signals.listening():
        signals.begin("step 3")
        send(signal.Signals[name], lambda: signals.pending == [name])
        with pytest.raises(signals.Stopped, match=f"stopped by {name} at step 3; run the same"):
            signals.check("at step 3")
        send(signal.SIGTERM, lambda: ended)
    assert ended == [128 + signal.SIGTERM]
    first, last = filter(None, capfd.readouterr().err.splitlines()[:4])
    assert first == f"{name}: saving as soon as step 3 is done; send it again to exit at once"
    assert last.startswith("ddpm_jax: ended at once by a second signal, SIGTERM; run the same")


def test_a_terminal_that_closes_sends_sighup_more_than_once(ended):
    """The kernel does, to the foreground, and so does the shell, to its jobs."""
    with signals.listening():
        send(signal.SIGHUP, lambda: signals.pending == ["SIGHUP"])
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.05)
        assert not ended
        send(signal.SIGINT, lambda: ended)


def test_a_signal_that_arrives_while_jax_is_imported_is_not_lost(monkeypatch, ended):
    """Nor is the second."""
    with signals.listening():
        monkeypatch.setitem(
            sys.modules, "jax", types.ModuleType("jax")
        )  # as yet without its contents
        send(signal.SIGTERM, lambda: signals.pending == ["SIGTERM"])
        send(signal.SIGTERM, lambda: ended)
    assert ended == [128 + signal.SIGTERM]


def test_under_nohup_sighup_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.listening():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and not signals.pending


def test_a_reader_that_is_gone_does_not_end_the_run(monkeypatch):
    """Neither a pipe's nor a terminal's, the other end of which is closed."""
    main, side = os.openpty()
    with os.fdopen(side, "w") as terminal:
        os.close(main)
        monkeypatch.setattr("sys.stdout", terminal)
        console.say("a line")
        console.say("another")
