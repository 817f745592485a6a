"""A command on several runs, --workdir=A,B,...: one command for each, with the same changes to its config."""

from ml_collections import ConfigDict

from ddpm_jax.cli import command_line
from ddpm_jax.cli.command_line import Command
from ddpm_jax.cli.exit import Usage
from ddpm_jax.run import record
from ddpm_jax.runtime import paths


def commands(command: Command) -> list[Command]:
    """Returns a command for each workdir: the changes to the first run's config are made to all of them.

    Raises ValueError unless there are two or more different runs that have the changed fields.
    """
    folders = [command.directory, *command.others]
    if len(folders) < 2:
        raise Usage(f"--mode={command.mode.name} needs two runs or more, --workdir=A,B")
    for i, folder in enumerate(folders):
        if paths.absolute(folder) in map(paths.absolute, folders[:i]):
            raise Usage(f"--workdir names {folder} twice")
    made = [command]
    changes = changed_fields(command)
    for folder in command.others:
        config = command_line.load_stored_config(folder)
        if config is None:
            raise Usage(f"{folder} holds no run")
        change(config, changes, f"{folder}")
        made.append(command._replace(config=config, directory=folder, name=folder.name, others=()))
    return made


def changed_fields(command: Command) -> dict:
    """Returns the fields of the first run's config that the command line has changed, with their values."""
    stored = command_line.load_stored_config(command.directory)
    if stored is None:
        raise Usage(f"{command.directory} holds no run")
    before, now = (record.flatten(each.to_dict()) for each in (stored, command.config))
    return {
        field: tuple(value) if isinstance(value, list) else value
        for field, value in now.items()
        if value != before.get(field)
    }


def change(config: ConfigDict, changes: dict, name: str) -> None:
    """Changes fields of a config. Raises Usage for those that it does not have."""
    missing = changes.keys() - record.flatten(config.to_dict()).keys()
    if missing:
        raise Usage(f"the config of {name} has no field {', '.join(sorted(missing))}")
    with config.ignore_type():  # which the sections check
        config.update_from_flattened_dict(changes)
