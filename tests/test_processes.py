"""Runs of several processes, and runs that move from so many devices and processes to others."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from test_command_line import TINY

pytestmark = pytest.mark.slow
LONG = [
    *TINY,
    "--config.train.batch_size=16",
    "--config.train.log_every=3",
    "--config.eval.images=0",
]
LONG += ["--config.train.sample_every=0", "--config.parallel.devices=0"]
LONG += ["--config.sample.batch_size=8", "--config.sample.count=8", "--config.eval.batch_size=8"]


def start(args, devices, number=0, processes=1, port=0, **options):
    """One process of a run, with so many forced devices of its own."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "ddpm_jax.main", *map(str, args)]
    if processes > 1:
        command += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"]
        command += [f"--process_id={number}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def start_all(args, devices, processes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
    assert steps == [3, 6, 9, 12]
    np.testing.assert_allclose(values, losses(alone)[1], rtol=1e-4)
    finish(*start_all([f"--workdir={tmp_path}", "--mode=sample"], *before))
    # Rounding to a grey level may tip over; a run of other numbers differs nearly everywhere.
    assert (samples(tmp_path) != samples(alone)).mean() < 0.02


def test_sigterm_to_one_of_two_processes_stops_both_at_one_step(digits, tmp_path):
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
