"""main() can be called any number of times in one process: every call is as if it were the first."""

import logging
import os
import signal
import sys
import threading
import time
import warnings

import jax
import pytest
from absl import flags
from conftest import ROOT
from support.command import TINY, ddpm

from ddpm_jax.profiling import preflight
from ddpm_jax.runtime import signals

DIGITS = f"--config={ROOT}/configs/digits.py"
PREFLIGHT = [f"--config={ROOT}/configs/digits.py", *TINY[1:], "--mode=preflight"]
INDIVISIBLE = ["--config.parallel.devices=0", "--config.train.batch_size=9"]


@pytest.fixture
def runs(monkeypatch):
    """The runs that --mode=preflight was asked to compile, which takes seconds."""
    found = []
    replace(monkeypatch, lambda run, topology: found.append(run))
    return found


def replace(monkeypatch, program):
    """Puts a program in the place of preflight's."""
    monkeypatch.setattr(preflight, "preflight", program)


def state():
    """What a call could leave behind it."""
    return {
        "argv": list(sys.argv),
        "verbosity": logging.getLogger("absl").level,
        "flags": {name: flags.FLAGS[name].value for name in flags.FLAGS},
        "parsed": flags.FLAGS.is_parsed(),
        "handlers": [signal.getsignal(number) for number in signals.SIGNALS],
        "received": list(signals.pending),
        "levels": [logging.getLogger(name).level for name in ("", "absl", "asyncio")],
        "warnings": list(warnings.filters),
        "unraisable": sys.unraisablehook,
        "jax": [jax.config.jax_platforms, jax.config.jax_enable_compilation_cache],
        "environment": dict(os.environ),
        "cwd": os.getcwd(),
    }


def test_a_call_leaves_nothing_behind_however_it_ends(tmp_path, runs, monkeypatch):
    monkeypatch.delenv("TPU_LOG_DIR", raising=False)  # else it may be there already
    before = state()
    ends = [
        (0, ["--help"]),
        (2, []),
        (2, [DIGITS, "--config.train.batch_size=0", "--verbosity=1"]),
        (2, [DIGITS, "--wrokdir=x"]),
        (2, [DIGITS, "--mode=prepare", "--config.data.name=digitz"]),
        (2, [DIGITS, "--mode=sample", f"--workdir={tmp_path}"]),
        (2, [*PREFLIGHT, "--topology=v5e:2x3"]),
        (2, [*PREFLIGHT, "--topology=v3:2x2", *INDIVISIBLE]),
        (0, [*PREFLIGHT, f"--workdir={tmp_path}"]),
    ]
    for status, args in ends:
        found, _, err = ddpm(*args, cwd=tmp_path)
        assert found == status, err
        assert state() == before


def test_no_thread_and_no_file_is_left_open(tmp_path):
    def opened():
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    ddpm(DIGITS, "--config.seed=-1", cwd=tmp_path)
    time.sleep(0.2)  # the thread that waits for signals has ended
    before = opened()
    for _ in range(5):
        ddpm(DIGITS, "--config.seed=-1", cwd=tmp_path)
    deadline = time.monotonic() + 10.0
    while opened() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert opened() <= before


def test_nothing_of_one_call_is_told_to_the_next(tmp_path, runs):
    """Fields, flags, the traceback, another config's fields: each call has its own only."""
    assert "Traceback" in ddpm(DIGITS, "--config.seed=-1", "--verbosity=1", cwd=tmp_path)[2]
    assert ddpm(*PREFLIGHT, "--workdir=one", cwd=tmp_path)[0] == 0
    plain = [DIGITS, "--mode=preflight", "--config.model.channels=8"]
    assert ddpm(*plain, cwd=tmp_path)[0] == 0
    told = [(run.directory.name, run.train.batch_size, run.model.network.channels) for run in runs]
    assert told == [("one", 8, 4), ("digits", 64, 8)]
    _, _, err = ddpm(f"--config={ROOT}/configs/cifar10.py", "--config.trian.steps=1", cwd=tmp_path)
    assert err.startswith("ddpm_jax: ") and "Traceback" not in err


def test_a_stopped_call_can_be_followed_by_one_that_runs_to_its_end(tmp_path, monkeypatch):
    """A real signal, to this very process."""
    done = []

    def interrupted(run, topology):
        if not done:
            os.kill(os.getpid(), signal.SIGTERM)
            while not signals.signal_name():
                time.sleep(0.001)
        done.append(run)
        signals.check("in the middle")

    replace(monkeypatch, interrupted)
    args = [*PREFLIGHT, "--stopped_status=75"]
    status, out, err = ddpm(*args, cwd=tmp_path)
    assert status == 75 and "stopped by SIGTERM in the middle" in out, err
    assert ddpm(*args, cwd=tmp_path) == (0, "", "") and len(done) == 2
