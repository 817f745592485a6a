"""train(): trains a config, or resumes its run, from Python."""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from os import PathLike
from typing import Any

from ml_collections import ConfigDict

from ddpm_jax.api import loading, numbers
from ddpm_jax.api.trained import Trained
from ddpm_jax.cli import command_line, execute, flag_table, modes
from ddpm_jax.cli.command_line import Command
from ddpm_jax.config import config_file, stored_config
from ddpm_jax.run import record
from ddpm_jax.runtime import checkpoint, console, lock, paths, signals

LOG = logging.getLogger("ddpm_jax")  # at level INFO it has the lines that the command prints


def train(
    config: ConfigDict | Mapping[str, Any] | str,
    workdir: str | PathLike | None = None,
    *,
    progress: bool = False,
    trust: bool = False,
    **fields: Any,
) -> Trained:
    """Trains a config in a folder, or resumes its run there, and measures the held-out bound.

    'config' is the name of a config or its file, as --config takes it, or a ConfigDict or a dict, such as
    the config of a Trained. 'workdir' is runs/<name> by default. 'fields' are overrides by their dotted
    names: **{"train.steps": 100}. 'progress' prints what the command prints. 'trust' is that of 'load',
    for a run that is resumed. Ctrl-C saves at the next step and returns; the same call resumes.

    Raises ValueError for an invalid config, before anything is written.
    """
    command = make_command(config, workdir, fields, trust)
    listening = nullcontext() if progress else console.quiet(LOG.info)

    def run() -> None:
        with loading.quiet_libraries(), listening:
            train_or_stop(command)

    signals.forget()
    try:
        wait_for(run)
    finally:
        signals.forget()
    if not checkpoint.exists(command.directory / "checkpoints"):
        raise KeyboardInterrupt("stopped before the first step; nothing was saved")
    # User code needs no trust here: it has just been trained with.
    return loading.load(command.directory, trust=True)


def make_command(
    config: ConfigDict | Mapping[str, Any] | str,
    workdir: str | PathLike | None,
    fields: dict[str, Any],
    trust: bool = False,
) -> Command:
    """Returns the command that trains a config. Raises ValueError for a field that it does not have."""
    name = ""
    if isinstance(config, str):
        config, name = config_file.load(config), config_file.run_name(config)
    elif workdir is None:
        raise ValueError("a config without a name needs a workdir, the folder of the run's files")
    sections = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    config = ConfigDict(stored_config.lists_to_tuples(sections))
    command_line.check_fields(config, [f"--config.{field}=" for field in fields])
    with config.ignore_type():  # which the sections check
        config.update_from_flattened_dict(
            {name: numbers.plain(value) for name, value in fields.items()}
        )
    values = flag_table.define()
    values(["ddpm_jax", f"--trust={trust}"])
    directory = paths.user_path(str(workdir or f"runs/{name}"))
    return Command(modes.MODES["train"], config, directory, name or directory.name, values)


def train_or_stop(command: Command) -> None:
    """Trains until the end, or until a signal. Raises ValueError for what is wrong with the command."""
    try:
        run = execute.check_and_build(command)
        with lock.hold(command.directory):
            record.check_same_run(
                command.directory, run.config
            )  # another may have trained meanwhile
            modes.function(command.mode.run)(run)
    except signals.Stopped as stopped:
        console.say(str(stopped))


def wait_for(run: Callable[[], None]) -> None:
    """Calls a function in a thread, where no Ctrl-C can interrupt a step; raises what it raises.

    The first Ctrl-C asks it to save and stop, the second one leaves it.
    """
    errors: list[BaseException] = []
    done = threading.Event()  # not Thread.join, which takes a thread for ended after a Ctrl-C in it

    def target() -> None:
        try:
            run()
        except BaseException as error:
            errors.append(error)
        done.set()

    threading.Thread(target=target, daemon=True).start()
    while not done.is_set():
        try:
            done.wait(0.1)
        except KeyboardInterrupt:
            if not signals.ask_to_stop("SIGINT"):
                raise
    for error in errors:
        raise error
