"""Parses the command line, and reports anything mistyped in one line.

No heavy library is imported before the flags and the names of the config's fields are checked.
"""

import os
import re
import sys
from typing import Any, NamedTuple

from absl import flags
from etils import epath
from ml_collections import ConfigDict, FieldReference, config_flags

import ddpm_jax
from ddpm_jax.cli import config_help, flag_table, mistakes, modes, positional, suggestion
from ddpm_jax.cli.exit import Usage
from ddpm_jax.cli.modes import Mode
from ddpm_jax.config import config_file
from ddpm_jax.runtime import paths


class Command(NamedTuple):
    """A parsed command line."""

    mode: Mode
    config: ConfigDict
    directory: epath.Path  # the workdir
    name: str  # of the run: the config file's
    flags: flags.FlagValues
    others: tuple[epath.Path, ...] = ()  # further workdirs, for a mode that takes several

    @property
    def options(self) -> dict[str, Any]:
        """The values of the mode's own flags, without those that the Run holds."""
        return {
            flag.name: flag_table.expand(flag, self.flags[flag.name].value)
            for flag in flag_table.TABLE
            if flag.name in self.mode.flags and flag.name not in modes.RUN_FLAGS
        }

    @property
    def run_fields(self) -> dict[str, Any]:
        """The values of the flags that the Run holds."""
        return {name: self.flags[name].value for name in modes.RUN_FLAGS}


def parse(argv: list[str]) -> Command:
    """Returns the mode, the config with its overrides, and the workdir.

    Raises Usage or ValueError for anything mistyped, SystemExit(0) for --help and --version.
    """
    inform(argv[1:])
    args = positional.to_flags(argv[1:])
    check_before_download(args)
    config, name, args = base_config(args)
    values = read_flags(config, args)
    mode = modes.MODES[values.mode]
    directory, *others = workdirs(mode, values.workdir or f"runs/{name}")
    return Command(mode, values.config, directory, name, values, tuple(others))


def read_flags(config: ConfigDict, args: list[str]) -> flags.FlagValues:
    """Returns the values of the flags, with the overrides applied to the config. Raises Usage."""
    check_fields(config, args)
    take_label(config, args)
    take_auto(config, args)
    values = flag_table.define()
    argv = ["ddpm", *args]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    try:
        rest = values(argv)
    except flags.UnrecognizedFlagError as error:
        raise Usage(
            mistakes.describe_unknown(error.flagname, field_names(config.to_dict()))
        ) from error
    except flags.Error as error:
        raise Usage(mistakes.describe_value(str(error).splitlines()[0])) from error
    except (TypeError, ValueError) as error:
        raise Usage(f"--config: {error}") from error
    if rest[1:]:
        raise Usage(
            f"unexpected argument {rest[1]!r}; a mode comes first, then its config or run, then flags,"
            " which start with --"
        )
    check_mode_flags(values)
    return values


def workdirs(mode: Mode | None, text: str) -> list[epath.Path]:
    """Returns the folder of --workdir, or several of a mode that takes them."""
    texts = [each for each in text.split(",") if each] if mode and mode.takes_runs else []
    return [paths.user_path(each) for each in texts or [text]]


def check_before_download(args: list[str]) -> None:
    """Raises ValueError for what is wrong with an import from the hub before its weights, and so its config, are known.

    The fields are image_folder's, which are all that a config for weights has.
    """
    source, spec = last_value(args, "source")[0], last_value(args, "config")[0]
    if last_value(args, "mode")[0] != "import" or not source or not paths.is_on_hub(source):
        return
    from ddpm_jax.weights import imported_config, importing

    likely = config_file.load(spec or str(config_file.package_folder() / "image_folder.py"))
    values = read_flags(likely, last_value(args, "config")[1])
    folder = values.workdir or f"runs/{imported_config.folder_name(source)}"
    importing.check_no_run(paths.user_path(folder))


def inform(args: list[str]) -> None:
    """Prints the help or the version for those who ask, and the help for those who type nothing.

    Raises SystemExit(0) for those who ask.
    """
    if args[:1] == ["help"]:  # --help=train is the config's section
        topic = [word for word in args[1:2] if word not in modes.MODES]
        args = [f"--help={''.join(topic)}"]
    for arg in args:
        if match := re.fullmatch("--?(?:h|help|helpfull|helpshort)(?:=(.*))?", arg):
            show(config_help.help_text(match[1]) if match[1] else flag_table.help_text())
            raise SystemExit(0)
        if re.fullmatch("--?version", arg):
            show(f"ddpm_jax {ddpm_jax.__version__}")
            raise SystemExit(0)
    if not args:
        show(flag_table.help_text())


def show(text: str) -> None:
    """Prints a text, of which a reader such as 'head' may take only a part."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_mode_flags(values: flags.FlagValues) -> None:
    """Raises Usage for a flag that the mode does not take."""
    for flag in flag_table.TABLE:
        allowed = modes.names_by_flag(flag.name)
        if allowed and values[flag.name].present and values.mode not in allowed:
            raise Usage(f"--{flag.name} goes with --mode={' or '.join(allowed)}, not {values.mode}")


def base_config(args: list[str]) -> tuple[ConfigDict, str, list[str]]:
    """Returns the config before overrides, its name, and the arguments without --config.

    Without --config it is the stored config of the run in --workdir; with --mode=import it follows
    from the weights. Raises Usage if there is neither.
    """
    spec, rest = last_value(args, "config")
    folder, _ = last_value(args, "workdir")
    mode = modes.MODES.get(last_value(args, "mode")[0] or "train")
    folder = workdirs(mode, folder)[0] if folder else None
    if mode and mode.name == "import":
        return *load_weights_config(args, spec or ""), rest
    if spec is not None:
        return config_file.load(spec), config_file.run_name(spec), rest
    config = None if folder is None else load_stored_config(folder)
    if folder is None or config is None:
        reads = mode is not None and mode.needs_checkpoint
        example = f"ddpm {mode.name} runs/digits" if mode and reads else "ddpm train digits"
        raise Usage(f"no --config, and no --workdir that holds a run; try: {example}")
    return config, folder.name, rest


def load_stored_config(folder: epath.Path) -> ConfigDict | None:
    """Returns the config of the run in a folder, or None if the folder holds no run."""
    from ddpm_jax.config import stored_config
    from ddpm_jax.run import record

    if record.read(folder) is None:
        return None
    return stored_config.get_config(str(folder))


def load_weights_config(args: list[str], base: str) -> tuple[ConfigDict, str]:
    """Returns the config of foreign weights over a base config, and the name of their run.

    Raises Usage without --source, and ValueError for invalid weights or an invalid base.
    """
    from ddpm_jax.runtime import console
    from ddpm_jax.weights import imported_config, source

    path, format = last_value(args, "source")[0], last_value(args, "format")[0]
    if not path:
        raise Usage("--mode=import needs --source=PATH, a checkpoint, a folder or hf:OWNER/NAME")
    path = str(paths.user_path(path))
    if paths.is_on_hub(path):
        console.say(f"reading  {path}; files that are not kept yet are downloaded")
    source.read.cache_clear()  # an earlier command of this process may have read other content
    weights = source.read(path, format or "auto")
    return imported_config.build_config(weights, base), imported_config.folder_name(path)


def last_value(args: list[str], flag: str) -> tuple[str | None, list[str]]:
    """Returns the last value of --flag=value or --flag value, None without one, and the other args."""
    for i, arg in reversed(list(enumerate(args))):
        match = re.fullmatch(f"--?{flag}(?:=(.*))?", arg, re.DOTALL)
        if match and match[1] is not None:
            return match[1], args[:i] + args[i + 1 :]
        if match:
            return "".join(args[i + 1 : i + 2]), args[:i] + args[i + 2 :]
    return None, args


def check_fields(config: ConfigDict, args: list[str]) -> None:
    """Raises Usage for an override of a field that the config does not have."""
    fields = config.to_dict()
    known = field_names(fields)
    for arg in args:
        match = re.match(r"--?(?:no)?config\.([^=]+)", arg)
        if match and match[1] not in known and match[1] not in fields:
            near = suggestion.suggest_fields(match[1], known)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else mistakes.choices(match[1], known)
            )
            raise Usage(f"the config has no field {match[1]}; {hint}")


def take_label(config: ConfigDict, args: list[str]) -> None:
    """Lets sample.label, whose override must have its type, be a label's number or its name."""
    text, _ = last_value(args, "config.sample.label")
    if text is not None and "sample.label" in field_names(config.to_dict()):
        label = int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text) else text
        with config.ignore_type():
            config.update_from_flattened_dict({"sample.label": label})


def take_auto(config: ConfigDict, args: list[str]) -> None:
    """Lets any field be "auto", whatever its type in the config; those that do not fit themselves refuse it."""
    known = field_names(config.to_dict())
    for field in known:
        if last_value(args, f"config.{field}")[0] == "auto":
            with config.ignore_type():
                config.update_from_flattened_dict({field: FieldReference("auto", object)})


def field_names(config: dict, prefix: str = "") -> list[str]:
    """Returns the dotted names of a config's fields."""
    names = []
    for key, value in config.items():
        nested = isinstance(value, dict)
        names += field_names(value, f"{prefix}{key}.") if nested else [prefix + key]
    return names
