"""Executes a command: validates everything that can be validated, then runs the mode's program."""

import zlib
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import logging

from ddpm_jax.cli import exit, modes, process_state, several
from ddpm_jax.cli.command_line import Command
from ddpm_jax.config import guide
from ddpm_jax.distributed import processes
from ddpm_jax.profiling import topology
from ddpm_jax.run import record, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint, console, files, lock, paths, signals, user_code


def execute(command: Command) -> int:
    """Returns the exit status: 0 done, 1 failed, --stopped_status if a signal stopped it.

    Raises ValueError for wrong usage, before anything is written.
    """
    with process_state.preserve_jax():
        logging.set_verbosity(command.flags.verbosity)
        exit.quiet_libraries()
        try:
            join(command)
            state.say_young.cache_clear()  # an earlier command of this process may have said it
            subject = check_and_build(command)
            with lock.hold(command.directory) if command.mode.locks else nullcontext():
                signals.check("before anything was started")
                if command.mode.locks:  # another process may have trained since it was checked
                    record.check_same_run(command.directory, subject.config)
                status = run_program(command, subject)
        except signals.Stopped as stopped:
            console.say(str(stopped))
            status = command.flags.stopped_status
        processes.finish()
        return status


def join(command: Command) -> None:
    """Prepares jax for the run's devices, and joins the other processes if there are any.

    Raises ValueError for an unknown topology, and for processes that were started with other flags.
    """
    values = command.flags
    name = values.topology or topology.LOCAL
    topology.begin(name)
    # Compiling for another topology uses no device, and no other process.
    if name == topology.LOCAL:
        numbers = values.num_processes, values.process_id
        processes.start(values.coordinator, *numbers, fingerprint(command), values.join_timeout)


def fingerprint(command: Command) -> dict[str, Any]:
    """Returns what all processes of a run must share; the path of the data may differ between hosts."""
    fields = record.flatten(command.config.to_dict())
    shared = {name: fields[name] for name in fields if name not in ("data.data_dir", "data.path")}
    code = sorted(Path(__file__).parents[1].rglob("*.py"))
    own = [name for _, name in record.user_names(command.config.to_dict())]
    return shared | {
        "--mode": command.mode.name,
        **{f"--{name}": value for name, value in command.run_fields.items()},
        "--workdir": command.flags.workdir or f"runs/{command.name}",
        "--num_processes": command.flags.num_processes,
        "jax": metadata.version("jax"),
        "ddpm_jax's checksum": zlib.crc32(b"".join(file.read_bytes() for file in code)),
        **{f"{name}'s checksum": user_code.checksum(name) for name in own},
    }


def check_and_build(command: Command) -> Any:
    """Returns what the mode works on: a Run, what the mode's own 'build' makes, or a list of those.

    Validates the command line and the config before anything is written. Raises ValueError.
    """
    mode = command.mode
    if mode.takes_runs:
        subject = [check_and_build_one(each) for each in several.commands(command)]
    else:
        subject = check_and_build_one(command)
    if mode.check:
        modes.function(mode.check)(subject, **command.options)
    return subject


def check_and_build_one(command: Command) -> Any:
    """Returns what the mode's 'build' makes of one workdir. Raises ValueError if it is not right."""
    mode, directory = command.mode, command.directory
    if mode.uses_workdir:
        check_workdir(command)
    subject = build_subject(command)
    if mode.uses_workdir:
        record.check_same_run(directory, subject.config)
        subject = complete_run(command, subject)
    return subject


def build_subject(command: Command) -> Any:
    """Returns what the mode's 'build' makes of the config. Raises ValueError for an invalid one.

    With a config that is not the stored run's, that is the error, unless the message is about a field
    that differs: then its value is wrong for every run.
    """
    mode, directory = command.mode, command.directory
    try:
        return modes.function(mode.build)(command.config, directory, **build_options(command))
    except ValueError as error:
        config = command.config.to_dict()
        stored = record.read_binding(directory, config) if mode.uses_workdir else None
        changed = record.changed_fields(stored, config) if stored else {}
        if not any(str(error).startswith(f"{field} ") for field in changed):
            record.check_same_run(directory, config)
        raise


def build_options(command: Command) -> dict[str, Any]:
    """Returns the arguments of the mode's 'build': --trust, and the mode's flags unless it is the default one."""
    own = {} if command.mode.build == modes.Mode.build else command.options
    return own | {"trust": command.flags.trust}


def check_workdir(command: Command) -> None:
    """Raises ValueError unless the workdir is writable and holds what the mode needs."""
    mode, directory = command.mode, command.directory
    will_wait = command.options.get("follow") and record.read(directory)  # for a first checkpoint
    if mode.needs_checkpoint and not will_wait and not checkpoint.exists(directory / "checkpoints"):
        raise ValueError(f"{directory} holds no checkpoint for --mode={mode.name}; train first")
    paths.check_literal(directory, "--workdir")
    files.check_writable(directory, *mode.writes)


def complete_run(command: Command, run: Run) -> Run:
    """Returns the run with its name, the flags that it holds, and its guiding classifier.

    Raises ValueError for a classifier's run in a mode that takes none, and for a step that it does not have.
    """
    mode, directory = command.mode, command.directory
    if run.model.classifies and not mode.takes_classifiers:
        raise ValueError(
            f"{directory} holds a classifier; for --mode={mode.name} name a run that draws samples,"
            f" and this one as --config.sample.classifier={directory}"
        )
    fields = command.run_fields
    run = run._replace(name=command.name, weights=fields["weights"])
    run = state.choose_step(run, fields["step"])
    return guide.open_guide(run) if mode.draws_samples else run


def run_program(command: Command, subject: Any) -> int:
    """Runs the mode's program; returns the exit status, 0, or 1 if the program fails.

    Signals, a lock that another process holds, and a program's own Usage errors pass through.
    """
    try:
        modes.function(command.mode.run)(subject, **command.options)
    except (signals.Stopped, lock.InUse, exit.Usage):
        raise
    except Exception as error:
        return exit.fail(error, 1)
    return 0
