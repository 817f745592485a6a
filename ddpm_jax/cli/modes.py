"""The table of modes, which defines their help, flags, checks, outputs and locks.

A mode's functions are named as text, "module:function", and imported when they are called, so that no
mode loads another's libraries.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RUN_FLAGS = ("weights", "step")  # which the Run holds, for every function that reads a checkpoint


@dataclass(frozen=True)
class Mode:
    """A value of --mode.

    Its functions take the values of its flags as keyword arguments, except those of RUN_FLAGS.
    """

    name: str
    help: str
    run: str  # the program, called with the result of 'build'
    check: str = ""  # called with that before anything is written; raises ValueError
    # called with the config, the workdir and --trust; one of a mode's own also takes the mode's flags
    build: str = "ddpm_jax.config.build:run"
    writes: tuple[str, ...] = ()  # folders in the workdir; "" is the workdir itself
    flags: tuple[str, ...] = ()
    uses_workdir: bool = True  # False: uses only the config's data section
    needs_checkpoint: bool = True
    draws_samples: bool = False  # as the sample section says, guided by sample.classifier
    takes_classifiers: bool = False  # the run may be a classifier's
    takes_runs: bool = (
        False  # several, A,B,...; its functions get a list of what 'build' makes of each
    )
    locks: bool = False  # holds the workdir's lock against a second writer


def function(name: str) -> Callable[..., Any]:
    """Imports and returns "module:function"."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


ALL = (
    Mode(
        name="train",
        help="trains a model or resumes a run, measures its bound, writes its report",
        run="ddpm_jax.cli.training:train_and_measure",
        check="ddpm_jax.cli.training:check",
        writes=("", "checkpoints", "samples", "eval"),
        needs_checkpoint=False,
        takes_classifiers=True,
        locks=True,
    ),
    Mode(
        name="prepare",
        help="downloads or converts the config's data set; needs no accelerator",
        run="ddpm_jax.cli.prepare:prepare",
        build="ddpm_jax.cli.prepare:build",
        flags=("source",),
        uses_workdir=False,
        needs_checkpoint=False,
    ),
    Mode(
        name="sample",
        help="draws sample.count images",
        run="ddpm_jax.cli.sample:sample",
        writes=("samples", "figures"),
        flags=("film", *RUN_FLAGS),
        draws_samples=True,
    ),
    Mode(
        name="evaluate",
        help="measures the bound and the quality of samples",
        run="ddpm_jax.cli.evaluation:evaluate_and_report",
        check="ddpm_jax.evaluation.program:check",
        writes=("", "eval", "samples"),
        flags=("follow", *RUN_FLAGS),
        draws_samples=True,
        takes_classifiers=True,
    ),
    Mode(
        name="figures",
        help="draws the paper's figures as PNG and PDF, with their numbers as JSON",
        run="ddpm_jax.figures.program:figures",
        check="ddpm_jax.figures.program:check",
        writes=("figures", "samples"),
        flags=("figures", *RUN_FLAGS),
        draws_samples=True,
    ),
    Mode(
        name="compare",
        help="compares runs, --workdir=A,B,...: config, curves, numbers, samples of the same seeds",
        run="ddpm_jax.report.compare:compare",
        check="ddpm_jax.report.compare:check",
        flags=("output", *RUN_FLAGS),
        takes_runs=True,
        draws_samples=True,
    ),
    Mode(
        name="report",
        help="writes report.html: one page about a run, to open offline or send by mail",
        run="ddpm_jax.report.program:report",
        check="ddpm_jax.report.program:check",
        writes=("", "figures", "samples"),
        flags=RUN_FLAGS,
        draws_samples=True,
        takes_classifiers=True,
    ),
    Mode(
        name="preflight",
        help="compiles the run for a TPU without one: memory, time per step",
        run="ddpm_jax.profiling.preflight:preflight",
        check="ddpm_jax.profiling.preflight:check",
        build="ddpm_jax.profiling.preflight:build_run",
        writes=("preflight",),
        flags=("topology",),
        needs_checkpoint=False,
        takes_classifiers=True,
    ),
    Mode(
        name="benchmark",
        help="times training, sampling and the input pipeline on this machine",
        run="ddpm_jax.profiling.benchmark:benchmark",
        build="ddpm_jax.profiling.benchmark:build_run",
        writes=("benchmark",),
        flags=("benchmark",),
        needs_checkpoint=False,
        draws_samples=True,
    ),
    Mode(
        name="import",
        help="makes a run from foreign weights",
        run="ddpm_jax.weights.program:import_weights",
        check="ddpm_jax.weights.program:check_import",
        build="ddpm_jax.weights.program:build",
        writes=("", "checkpoints"),
        flags=("source", "format"),
        needs_checkpoint=False,
        locks=True,
    ),
    Mode(
        name="export",
        help="writes a run's weights for diffusers, or its samples as files",
        run="ddpm_jax.weights.program:export",
        check="ddpm_jax.weights.program:check_export",
        flags=("target", "format", *RUN_FLAGS),
        draws_samples=True,
    ),
    Mode(
        name="calibrate",
        help="measures, once per checkpoint, what compression needs",
        run="ddpm_jax.codec.commands.calibrate:calibrate",
        check="ddpm_jax.codec.commands.calibrate:check",
        writes=("codec",),
        flags=RUN_FLAGS,
    ),
    Mode(
        name="compress",
        help="compresses pictures without loss, with the model",
        run="ddpm_jax.codec.commands.program:compress",
        check="ddpm_jax.codec.commands.program:check_compress",
        flags=("input", "output", "max_bytes", "nu", "profile", "archive", *RUN_FLAGS),
    ),
    Mode(
        name="decompress",
        help="restores the pictures, or a prefix of each",
        run="ddpm_jax.codec.commands.program:decompress",
        check="ddpm_jax.codec.commands.program:check_decompress",
        flags=("input", "output", "max_bytes", "best_effort", *RUN_FLAGS),
    ),
    Mode(
        name="inspect",
        help="prints the content of compressed files",
        run="ddpm_jax.codec.commands.program:inspect",
        check="ddpm_jax.codec.commands.program:check_inspect",
        flags=("input",),
    ),
)
MODES = {mode.name: mode for mode in ALL}


def names_by_flag(name: str) -> list[str]:
    """Returns the names of the modes that declare a flag; [] for a flag that every mode takes."""
    return [mode.name for mode in ALL if name in mode.flags]
