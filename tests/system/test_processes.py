"""Runs of several processes, and runs that move from so many devices and processes to others."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import CHEAP, ROOT
from support.command import TINY

pytestmark = pytest.mark.slow
LONG = [
    *TINY,
    "--config.train.batch_size=16",
    "--config.train.log_every=3",
    "--config.eval.images=0",
]
LONG += ["--config.train.sample_every=0", "--config.parallel.devices=0"]
LONG += ["--config.sample.batch_size=8", "--config.sample.count=8", "--config.eval.batch_size=8"]


# The command, with a peer taken for dead after 15 s of silence instead of 40.
IMPATIENT = """
import runpy
from ddpm_jax.distributed import processes
processes.SILENCE = 15.0
runpy.run_module("ddpm_jax.main", run_name="__main__", alter_sys=True)
"""


def start(args, devices, number=0, processes=1, port=0, env=(), **options):
    """One process of a run, with so many forced devices of its own."""
    flags = f"--xla_force_host_platform_device_count={devices} {CHEAP}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags} | dict(env)
    command = [sys.executable, "-c", IMPATIENT, *map(str, args)]
    if processes > 1:
        command += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"]
        command += [f"--process_id={number}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_all(args, devices, processes):
    port = free_port()
    return [start(args, devices, i, processes, port) for i in range(processes)]


def finish(*running):
    """What the first process said; all must have exited with 0."""
    said = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0] * len(running), said
    return said[0][0]


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows], np.array([row["loss"] for row in rows])


def samples(folder):
    (path,) = folder.glob("samples/*.npz")
    return np.load(path)["arr_0"].astype(int)


@pytest.fixture(scope="module")
def alone(digits, tmp_path_factory):
    """What every one of the runs below must do: 12 steps, 8 samples, here on one device."""
    folder = tmp_path_factory.mktemp("alone")
    finish(start([*run_in(digits, folder), "--config.train.steps=12"], 1))
    finish(start([f"--workdir={folder}", "--mode=sample"], 1))
    return folder


def run_in(digits, folder):
    return [*LONG, f"--config.data.data_dir={digits}", f"--workdir={folder}"]


@pytest.mark.parametrize("before, after", [((8, 1), (1, 1)), ((1, 1), (8, 1)), ((4, 2), (1, 1))])
def test_a_run_moves_to_other_devices_and_processes(alone, digits, tmp_path, before, after):
    """(devices each, processes) before and after; the window of the log spans the move."""
    args = run_in(digits, tmp_path)
    finish(*start_all([*args, "--config.train.steps=5"], *before))
    said = finish(*start_all([*args, "--config.train.steps=12"], *after))
    assert "resuming from step 5" in said
    steps, values = losses(tmp_path)
    assert steps == [1, 2, 3, 6, 9, 12]
    np.testing.assert_allclose(values, losses(alone)[1], rtol=1e-4)
    finish(*start_all([f"--workdir={tmp_path}", "--mode=sample"], *before))
    # Rounding to a grey level may tip over; a run of other numbers differs nearly everywhere.
    assert (samples(tmp_path) != samples(alone)).mean() < 0.02


def test_a_state_that_is_spread_over_two_processes_moves_to_one(digits, tmp_path):
    """Each process saves and restores its part of the parameters, moments and averages."""
    wide = ["--config.model.channels=32", "--config.train.log_every=1"]
    spread = ["--config.parallel.params=fsdp", "--config.parallel.accumulation=2"]
    args = [*run_in(digits, tmp_path / "spread"), *wide]
    finish(*start_all([*args, *spread, "--config.train.steps=2"], 4, 2))
    said = finish(*start_all([*args, *spread, "--config.train.steps=4"], 4, 2))
    assert "resuming from step 2" in said
    said = finish(start([*args, "--config.train.steps=5"], 1))
    assert "resuming from step 4" in said
    finish(start([*run_in(digits, tmp_path / "whole"), *wide, "--config.train.steps=5"], 1))
    values = [losses(tmp_path / name)[1] for name in ("spread", "whole")]
    np.testing.assert_allclose(*values, rtol=1e-4)


def test_two_processes_save_by_the_clock_of_the_first_and_resume(alone, digits, tmp_path):
    """Two real processes with clocks of their own; steps at which only one saved would be waited for in vain."""
    args = run_in(digits, tmp_path)
    args += ["--config.train.checkpoint_every=1000000", "--config.train.checkpoint_minutes=0.01"]
    saved = tmp_path / "checkpoints"
    first, second = start_all([*args, "--config.train.steps=100000"], 1, 2)
    seen = set()  # all in turn, as the oldest are deleted
    while len(seen) < 4:
        assert [first.poll(), second.poll()] == [None, None]
        if saved.exists():
            seen |= {path.name for path in saved.iterdir() if path.name.isdigit()}
        time.sleep(0.01)
    second.send_signal(signal.SIGTERM)
    said = finish(first, second)
    (stopped,) = [line for line in said.splitlines() if line.startswith("stopped by SIGTERM")]
    assert f"at step {max(int(path.name) for path in saved.iterdir())} " in stopped
    np.testing.assert_allclose(losses(tmp_path)[1][:6], losses(alone)[1], rtol=1e-4)


def test_sigterm_to_one_of_two_processes_stops_both_at_one_step(digits, tmp_path):
    """Two real processes and a signal: they agree through jax's own service."""
    args = [*run_in(digits, tmp_path), "--config.train.log_every=1", "--config.train.steps=100000"]
    first, second = start_all(args, 1, 2)
    for line in first.stdout:
        if line.startswith("step 5/"):
            break
    second.send_signal(signal.SIGTERM)
    said = finish(first, second)
    (stopped,) = [line for line in said.splitlines() if line.startswith("stopped by SIGTERM")]
    step = int(stopped.split("at step ")[1].split(" ")[0])
    saved = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    assert step == max(saved) >= 5
    said = finish(start([*args, f"--config.train.steps={step + 2}"], 1))
    assert f"resuming from step {step}" in said
    assert losses(tmp_path)[0] == list(range(1, step + 3))


def test_sigterm_to_one_of_two_stops_the_sampling_of_both_and_it_goes_on(alone, tmp_path):
    """Two real processes and a signal, in the middle of a batch."""
    (tmp_path / "config.json").write_bytes((alone / "config.json").read_bytes())
    (tmp_path / "checkpoints").symlink_to(alone / "checkpoints")
    args = [f"--workdir={tmp_path}", "--mode=sample", "--config.sample.count=4000"]
    first, second = start_all(args, 4, 2)
    for line in first.stdout:
        if line.startswith("batch 2 of"):
            break
    second.send_signal(signal.SIGTERM)
    said = finish(first, second)
    assert "stopped by SIGTERM" in said and "run the same command again to continue" in said
    assert not list(tmp_path.glob("samples/*.npz"))
    begun = f"--config.sample.count={8 * (2 + len(list(tmp_path.glob('samples/.*/*.npz'))))}"
    finish(*start_all([*args[:2], begun], 4, 2))
    assert (samples(tmp_path)[:8] != samples(alone)).mean() < 0.02


HOST = socket.gethostname()


@pytest.mark.parametrize("victim", [0, 1])
def test_one_of_two_is_killed_the_other_ends_and_says_who_and_one_process_goes_on(
    alone, digits, tmp_path, victim
):
    """A real death: jax waits in a collective that nobody will finish."""
    for attempt in range(3):
        folder = tmp_path / f"{attempt}"
        args = [*run_in(digits, folder), "--config.train.checkpoint_every=3"]
        running = start_all([*args, "--config.train.steps=100000"], 4, 2)
        saved = folder / "checkpoints" / "3"
        while not saved.exists():
            assert [process.poll() for process in running] == [None, None]
            time.sleep(0.01)
        running[victim].kill()
        killed, survivor = time.monotonic(), running[1 - victim]
        _, err = survivor.communicate(timeout=120)
        # A message cut in the middle makes gloo, jax's collectives on CPUs, abort the process before it can
        # say anything, now and then (1 of 8 kills seen). There is no catching that; try again.
        if not (survivor.returncode == -signal.SIGABRT and "gloo::EnforceNotMet" in err):
            break
    assert survivor.returncode == 1, err
    last = err.splitlines()[-1]
    assert f"ddpm_jax: process {victim} on {HOST} is gone" in last and "start all" in last
    assert time.monotonic() - killed < 120
    newest = max(int(path.name) for path in saved.parent.iterdir() if path.name.isdigit())
    assert newest < 12  # it was killed early enough for what comes now to be compared
    said = finish(start([*args, "--config.train.steps=12"], 1))
    assert f"resuming from step {newest}" in said
    np.testing.assert_allclose(losses(folder)[1], losses(alone)[1], rtol=1e-4)


def test_a_process_that_fails_tells_the_others_why(digits, tmp_path):
    """The second finds its part of the data set gone."""
    args = [*run_in(digits, tmp_path), "--config.train.steps=100000"]
    port = free_port()
    first = start(args, 1, 0, 2, port)
    second = start([*args, f"--config.data.data_dir={tmp_path / 'elsewhere'}"], 1, 1, 2, port)
    errors = [process.communicate(timeout=240)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [1, 2], errors
    assert f"process 1 on {HOST} failed: " in errors[0] and "elsewhere" in errors[0]


def test_who_does_not_come_is_named(digits, tmp_path):
    """Real processes that wait for one that was never started."""
    args = [*run_in(digits, tmp_path), "--join_timeout=6"]
    port = free_port()
    two = [start(args, 1, number, 3, port) for number in (0, 2)]
    for process in two:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert err.splitlines()[-1].startswith(
            "ddpm_jax: after 6 s, 1 of 3 processes did not connect: process 1"
        )
    lost = start(args, 1, 1, 3, port)
    _, err = lost.communicate(timeout=120)
    assert lost.returncode == 1 and f"process 0 at 127.0.0.1:{port} cannot be reached" in err
    assert not list(tmp_path.iterdir())


def test_processes_with_unlike_configs_are_told_the_difference(digits, tmp_path):
    """Two real processes: they compare what they were told before jax joins them."""
    args, port = run_in(digits, tmp_path), free_port()
    unlike = [
        start([*args, f"--config.train.batch_size={8 * (1 + i)}"], 1, i, 2, port) for i in (0, 1)
    ]
    for process in unlike:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2
        assert f"process 1 on {HOST} was started with train.batch_size 16, the first" in err
    assert not list(tmp_path.iterdir())


SLURM = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2"}


def test_processes_find_each_other_under_slurm(digits, tmp_path):
    """jax's own reading of SLURM's environment, by two real processes."""
    told = [SLURM | {"SLURM_PROCID": f"{i}", "SLURM_LOCALID": f"{i}"} for i in range(2)]
    args = [*run_in(digits, tmp_path), "--config.train.steps=2"]
    said = finish(*[start(args, 1, env=told[i]) for i in range(2)])
    assert "2 cpu device(s)" in said and "trained to step 2" in said
