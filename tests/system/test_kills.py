"""Real processes, really killed: after the same command again nothing shows that it happened."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from etils import epath
from support.command import TINY
from support.training import assert_equal

from ddpm_jax.config import build, stored_config
from ddpm_jax.report import chart
from ddpm_jax.run import state

pytestmark = pytest.mark.slow
LAST = 1500
ARGS = [
    *TINY,
    f"--config.train.steps={LAST}",
    "--config.train.log_every=5",
    "--config.train.checkpoint_every=20",
    "--config.train.sample_every=500",
    "--config.train.keep=3",
    "--config.diffusion.schedule.T=100",
    "--config.train.grid.steps=100",
    "--config.sample.steps=100",
    "--config.sample.count=80",
    "--config.sample.batch_size=4",
    "--config.eval.steps=100",
    "--config.eval.images=0",
]
SLOW_TO_COMPILE = [
    "--config.model.channels=16",
    "--config.model.multipliers=(1,1,1)",
    "--config.model.blocks=4",
    "--config.model.attention=(8,4,2)",
]
SAMPLE = ["--mode=sample"]
EVALUATE = ["--mode=evaluate", "--config.eval.images=360", "--config.eval.batch_size=6"]


class Command:
    """A process of the command line, its output in a file."""

    def __init__(self, log, *args):
        self.log = log
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "ddpm_jax.main", *map(str, args)]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file
            )

    def said(self):
        return self.log.read_text()

    def wait_for(self, condition):
        """Waits until it holds; the process must be alive then."""
        deadline = time.monotonic() + 120
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.002)

    def send(self, number):
        assert self.process.poll() is None, f"it ended before it was killed: {self.said()}"
        self.process.send_signal(number)
        return self.process.wait(timeout=120)

    def finish(self):
        assert self.process.wait(timeout=240) == 0, self.said()
        return self.said()


def checkpoints(folder):
    return {int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()}


def being_saved(folder):
    return list((folder / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def rows(folder, up_to=LAST):
    """The lines of the log up to a step, as they are."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if json.loads(line)["step"] <= up_to]


def numbers(folder):
    return [{k: json.loads(row)[k] for k in ("step", "loss", "grad_norm")} for row in rows(folder)]


def final(folder):
    """The state at the end, parameters and EMA among it."""
    directory = epath.Path(folder)
    step, found, _ = state.read_newest(build.run(stored_config.get_config(str(folder)), directory))
    assert step == LAST
    return found


def samples(folder):
    (path,) = folder.glob("samples/*.npz")
    return np.load(path)["arr_0"]


def bound(folder):
    (path,) = folder.glob("eval/*.json")
    return json.loads(path.read_text()) | {"seconds": 0}


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    data_dir = f"--config.data.data_dir={digits}"
    Command(folder / "log", *ARGS, data_dir, f"--workdir={folder}").finish()
    for more in (SAMPLE, EVALUATE):
        Command(folder / "log", *more, f"--workdir={folder}").finish()
    return folder


def resumed_from(command):
    command.wait_for(lambda: "resuming from step" in command.said())
    return int(command.said().split("resuming from step ")[1].split()[0])


def interrupt_training(command, folder, how, after):
    """Kills the command after some seconds of training beyond a new checkpoint, or in a save."""
    known = checkpoints(folder)
    command.wait_for(lambda: checkpoints(folder) - known)
    if how == "in a save":
        command.wait_for(lambda: being_saved(folder))
        assert command.send(signal.SIGKILL) == -signal.SIGKILL
    elif how == "SIGKILL":
        time.sleep(after)
        assert command.send(signal.SIGKILL) == -signal.SIGKILL
    else:
        time.sleep(after)
        assert command.send(signal.Signals[how]) == 0, command.said()
        line = f"stopped by {how} at step {max(checkpoints(folder))} of {LAST}"
        assert f"{line}; run the same command again to continue" in command.said()


def test_training_killed_again_and_again(undisturbed, digits, tmp_path):
    """6 kills at random moments, 7 in the middle of a save, SIGTERM and Ctrl-C."""
    rng = np.random.default_rng(0)
    ends = ["SIGKILL"] * 6 + ["in a save"] * 7 + ["SIGTERM", "SIGINT"]
    args = [*ARGS, f"--config.data.data_dir={digits}", f"--workdir={tmp_path}"]
    saves_cut, logged, newest = 0, [], 0
    for number, how in enumerate(rng.permutation(ends)):
        command = Command(tmp_path / f"log-{number}", *args)
        if newest:
            assert resumed_from(command) == newest
        interrupt_training(command, tmp_path, how, rng.uniform(0, 0.3))
        # What was logged up to the checkpoint that was resumed from is still there, as it was.
        assert rows(tmp_path, newest) == logged
        saves_cut += bool(being_saved(tmp_path))
        newest = max(checkpoints(tmp_path))
        logged = [line for line in intact(tmp_path) if json.loads(line)["step"] <= newest]
    assert saves_cut >= 4 and newest < LAST
    said = Command(tmp_path / "log-last", *args).finish()
    assert f"resuming from step {newest}" in said and rows(tmp_path, newest) == logged
    assert not being_saved(tmp_path)
    assert_equal(final(tmp_path), final(undisturbed))
    assert numbers(tmp_path) == numbers(undisturbed)
    for grid in undisturbed.glob("samples/*-grid.png"):
        assert (tmp_path / "samples" / grid.name).read_bytes() == grid.read_bytes()
    (loss, norm), shown = drawn(tmp_path)
    assert len(loss) == min(chart.POINTS, len(rows(tmp_path))) and loss == sorted(loss)
    assert ((loss, norm), shown) == drawn(undisturbed)


def drawn(folder):
    """The curves of the one report, loss and norm of the gradient, and the steps of its grids."""
    (page,) = folder.rglob("*report*.html")
    text = page.read_text()
    lines = [
        [tuple(map(float, point.split(","))) for point in line.split()]
        for line in re.findall(r'<polyline points="([^"]*)"', text)
    ]
    return (lines[0], lines[1]), re.findall('data-place="([^"]*)"', text)


def test_checkpoints_by_the_clock_leave_no_trace_in_a_run_that_is_killed(
    undisturbed, digits, tmp_path
):
    """Real kills after checkpoints at steps that a real clock chose, other ones at each try."""
    args = [*ARGS, f"--config.data.data_dir={digits}", f"--workdir={tmp_path}"]
    args += ["--config.train.checkpoint_every=1000000", "--config.train.checkpoint_minutes=0.01"]
    for number in range(4):
        command = Command(tmp_path / f"log-{number}", *args)
        interrupt_training(command, tmp_path, "SIGKILL", 0.3)
    newest = max(checkpoints(tmp_path))
    assert newest < LAST
    said = Command(tmp_path / "log-last", *args).finish()
    assert f"resuming from step {newest}" in said
    assert_equal(final(tmp_path), final(undisturbed))
    assert numbers(tmp_path) == numbers(undisturbed)


def intact(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [line.rstrip("\n") for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("more, made", [(SAMPLE, samples), (EVALUATE, bound)])
def test_sampling_and_evaluating_killed_again_and_again(undisturbed, tmp_path, more, made):
    """4 kills at random moments, SIGTERM and Ctrl-C; batches that were done are not done again."""
    (tmp_path / "config.json").write_bytes((undisturbed / "config.json").read_bytes())
    (tmp_path / "checkpoints").symlink_to(undisturbed / "checkpoints")
    rng = np.random.default_rng(1)
    before = []
    for number, how in enumerate(rng.permutation(["SIGKILL"] * 4 + ["SIGTERM", "SIGINT"])):
        command = Command(tmp_path / f"log-{number}", *more, f"--workdir={tmp_path}")
        command.wait_for(lambda before=before: len(done(tmp_path)) > len(before))
        time.sleep(rng.uniform(0, 0.2))
        kept = {path: path.stat().st_mtime_ns for path in before}
        status = command.send(signal.Signals[how])
        assert status == (-signal.SIGKILL if how == "SIGKILL" else 0), command.said()
        if how != "SIGKILL":
            assert f"stopped by {how}" in command.said()
        assert kept == {path: path.stat().st_mtime_ns for path in before}
        before = done(tmp_path)
    Command(tmp_path / "log-last", *more, f"--workdir={tmp_path}").finish()
    np.testing.assert_equal(made(tmp_path), made(undisturbed))
    assert not done(tmp_path)


def done(folder):
    return sorted(path for path in folder.glob("*/.*/*.npz") if path.stem.isdigit())


def test_a_second_ctrl_c_ends_it_at_once_even_while_it_compiles(digits, tmp_path):
    """A process that is ended cannot be this one."""
    number, name = signal.SIGINT, "SIGINT"
    args = [*ARGS, f"--config.data.data_dir={digits}", f"--workdir={tmp_path}"]
    command = Command(tmp_path / "log", *args, *SLOW_TO_COMPILE)
    command.wait_for(lambda: list(tmp_path.glob("events.*")))
    time.sleep(0.5)  # until it compiles, which takes many seconds
    command.process.send_signal(number)
    compiling = f"{name}: saving as soon as step 1, which is compiled first, is done"
    command.wait_for(lambda: f"{compiling}; send it again to exit at once" in command.said())
    assert command.send(number) == 128 + number
    last = command.said().splitlines()[-1]
    assert last.startswith(
        f"ddpm_jax: ended at once by a second signal, {name}; run the same command"
    )
    assert not checkpoints(tmp_path)
    # Nothing was trained, so another config may take the folder, which a killed process's lock does not hold.
    other = Command(tmp_path / "log-2", *args)
    other.wait_for(lambda: checkpoints(tmp_path))
    assert other.send(number) == 0
    assert "of another config, with which nothing was trained; replacing it" in other.said()


def test_a_terminal_that_closes_ends_training_as_sigterm_does(digits, tmp_path):
    """SIGHUP from the kernel, and writes that fail: only a terminal does both."""
    args = [*ARGS, f"--config.data.data_dir={digits}", f"--workdir={tmp_path}"]
    args.append("--config.train.steps=1000000")  # more than it takes on any machine
    main, side = os.openpty()
    take = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    heed = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # these tests may be under nohup
    become = f"{take}; {heed}; os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", become, sys.executable, "-m", "ddpm_jax.main", *map(str, args)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=side, stdout=side, stderr=side
    )
    os.close(side)
    while not checkpoints(tmp_path):
        assert process.poll() is None
        if select.select([main], [], [], 0.01)[0]:
            os.read(main, 1 << 16)
    os.close(main)
    assert process.wait(timeout=120) == 0
    newest = max(checkpoints(tmp_path))
    again = Command(tmp_path / "log", *args)
    assert resumed_from(again) == newest
    assert again.send(signal.SIGTERM) == 0


def test_a_scheduler_can_tell_a_stopped_run_from_one_that_is_done(undisturbed, digits, tmp_path):
    """--stopped_status is for the former only."""
    args = [*ARGS, f"--config.data.data_dir={digits}", "--stopped_status=75"]
    command = Command(tmp_path / "log-1", *args, f"--workdir={tmp_path}")
    command.wait_for(lambda: checkpoints(tmp_path))
    assert command.send(signal.SIGTERM) == 75, command.said()
    Command(tmp_path / "log-2", *args, f"--workdir={undisturbed}").finish()


FILL_UP = """
set -e
mount -t tmpfs -o size=8m tmpfs {disk} || exit 77
cp -r {run}/config.json {disk}
mkdir {disk}/checkpoints
cp -r {run}/checkpoints/{step} {disk}/checkpoints
run="{python} -m ddpm_jax.main --workdir={disk} --config.train.steps={more}"
dd if=/dev/zero of={disk}/filler bs=1k status=none || true
truncate -s -60k {disk}/filler
status=0
$run || status=$?
echo "status $status"
rm {disk}/filler
$run
"""


def test_a_disk_that_fills_up_in_a_save_loses_nothing(undisturbed, tmp_path):
    """A file system of 8 MB in a namespace of its own, with 60 kB left on it; then room is made."""
    names = {"disk": tmp_path, "run": undisturbed, "step": LAST, "more": LAST + 10}
    script = FILL_UP.format(python=sys.executable, **names)
    alone = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("a name space of our own cannot be made here")
    done = subprocess.run(
        [*alone, "bash", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    if done.returncode == 77:
        pytest.skip("no file systems may be mounted here")
    assert done.returncode == 0, done.stderr
    assert "ddpm_jax: the disk is full: " in done.stderr and "Traceback" not in done.stderr
    assert "status 1\n" in done.stdout
    assert done.stdout.count(f"resuming from step {LAST}") == 2
    assert f"trained to step {LAST + 10}" in done.stdout


def test_ctrl_c_saves_though_the_listener_behind_a_pipe_is_gone(digits, tmp_path):
    """As with "| tee log", which the same Ctrl-C ends."""
    args = [*ARGS, f"--config.data.data_dir={digits}", f"--workdir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ddpm_jax.main", *args],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while not checkpoints(tmp_path):
        assert process.poll() is None
        time.sleep(0.01)
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 0
    newest = max(checkpoints(tmp_path))
    again = Command(tmp_path / "log", *args)
    assert resumed_from(again) == newest
    assert again.send(signal.SIGTERM) == 0


def test_a_folder_in_use_is_refused_with_its_owner_named_and_a_dead_owner_is_none(digits, tmp_path):
    """Two real owners: the system's lock goes with the process that is killed."""
    args = [*ARGS, f"--config.data.data_dir={digits}", f"--workdir={tmp_path}"]
    first = Command(tmp_path / "log-1", *args)
    first.wait_for(lambda: checkpoints(tmp_path))
    second = Command(tmp_path / "log-2", *args)
    assert second.process.wait(timeout=120) == 2
    assert f"in use by process {first.process.pid} on " in second.said()
    assert "Traceback" not in second.said()
    assert first.send(signal.SIGKILL) == -signal.SIGKILL
    third = Command(tmp_path / "log-3", *args)
    assert resumed_from(third) > 0
    assert third.send(signal.SIGTERM) == 0, third.said()
