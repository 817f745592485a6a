"""The command line without a process of its own."""

import contextlib
import io

from conftest import ROOT

from ddpm_jax import main


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
