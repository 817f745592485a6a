"""A tiny run's command line, in this process or in one of its own."""

import contextlib
import io
import os
import subprocess
import sys

from conftest import ROOT

from ddpm_jax import main

TINY = [
    "--config=configs/digits.py",
    "--config.model.channels=4",
    "--config.model.multipliers=(1,)",
    "--config.model.attention=()",
    "--config.diffusion.schedule.T=6",
    "--config.train.steps=4",
    "--config.train.batch_size=8",
    "--config.train.log_every=2",
    "--config.train.checkpoint_every=2",
    "--config.train.grid.steps=6",
    "--config.train.grid.count=4",
    "--config.sample.steps=6",
    "--config.sample.count=5",
    "--config.sample.batch_size=4",
    "--config.eval.steps=6",
    "--config.eval.images=12",
    "--config.eval.batch_size=12",
    "--config.eval.quality.samples=0",
    "--config.parallel.devices=1",
]


def ddpm(*args, cwd=ROOT):
    """Returns the exit status, standard output, and standard error of one command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main.main(["main", *map(str, args)])
        except SystemExit as ended:
            status = ended.code
    return status, out.getvalue(), err.getvalue()


def ddpm_process(*args, cwd=ROOT, before=""):
    """Returns the exit status, standard output, and standard error of one command, run in a process of its own.

    'before' is run in the process before the command takes its place.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", "ddpm_jax.main", *map(str, args)]
    if before:
        become = f"{before}; import os, sys; os.execv(sys.executable, sys.argv[1:])"
        program = [sys.executable, "-c", become, *program]
    done = subprocess.run(
        program, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout, done.stderr
