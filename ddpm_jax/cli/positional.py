"""Short commands: 'train digits' for --mode=train --config=digits, and their like."""

import difflib
import os
import re
from itertools import pairwise

from etils import epath

from ddpm_jax.cli import flag_table, modes
from ddpm_jax.cli.exit import Usage
from ddpm_jax.cli.modes import Mode
from ddpm_jax.config import config_file
from ddpm_jax.runtime import files, paths

SWITCHES = {
    prefix + flag.name for flag in flag_table.TABLE if flag.kind == "bool" for prefix in ("", "no")
}


def to_flags(args: list[str]) -> list[str]:
    """Returns the arguments with a mode in the first place, and the word that goes with it, as flags.

    The word is a run's folder for a mode that reads one; foreign weights for import; else a config, or
    the folder of a run. Raises Usage if it is not, and for what is also given by its flag.
    """
    if not args or args[0].startswith("-"):
        return args
    mode, rest = find_mode(args[0]), args[1:]
    flags = [as_flag("mode", mode.name, rest)]
    place = find_word(args)
    if place and mode.takes_runs:
        words, rest = split_words(args)
        for word in words:
            choose_flag(mode, word, rest)
        flags.append(as_flag("workdir", ",".join(words), rest))
    elif place:
        word, rest = args[place], args[1:place] + args[place + 1 :]
        flags.append(as_flag(choose_flag(mode, word, rest), word, rest))
    return flags + rest


def find_word(args: list[str]) -> int | None:
    """Returns the place of the first argument after the mode that is neither a flag nor a flag's value."""
    for i in range(1, len(args)):
        if not args[i].startswith("-") and not takes_next(args[i - 1]):
            return i
    return None


def split_words(args: list[str]) -> tuple[list[str], list[str]]:
    """Returns the arguments after the mode that are neither flags nor flags' values, and the others."""
    words, rest = [], []
    for before, arg in pairwise(args):
        (rest if arg.startswith("-") or takes_next(before) else words).append(arg)
    return words, rest


def takes_next(arg: str) -> bool:
    """Returns whether an argument is a flag whose value is the next one."""
    return arg.startswith("-") and "=" not in arg and arg.lstrip("-") not in SWITCHES


def find_mode(word: str) -> Mode:
    """Returns the mode of that name. Raises Usage, with what to type instead, without one."""
    refuse_empty(word)
    if word in modes.MODES:
        return modes.MODES[word]
    if holds_run(word):
        hint = f"put one before it, such as: sample {word}"
    elif exists_as_config(word):
        hint = f"put one before it, such as: train {word}"
    else:
        hint = files.suggest(word, modes.MODES)
    raise Usage(f"{word!r} is not a mode; {hint}")


def refuse_empty(word: str) -> None:
    """Raises Usage for an empty argument, such as a variable of the shell that is not set."""
    if not word:
        raise Usage("an argument is empty; expected a mode, then a config or the folder of a run")


def as_flag(name: str, value: str, rest: list[str]) -> str:
    """Returns --name=value. Raises Usage if the other arguments have that flag too."""
    if has_flag(name, rest):
        raise Usage(f"{value!r} stands for --{name}={value}, and --{name} is given too; remove one")
    return f"--{name}={value}"


def has_flag(name: str, args: list[str]) -> bool:
    """Returns whether the arguments contain --name=value or --name value."""
    return any(re.match(f"--?{name}(=|$)", arg) for arg in args)


def choose_flag(mode: Mode, word: str, rest: list[str]) -> str:
    """Returns the name of the flag that a word after the mode stands for.

    Raises Usage for a word that names neither a run nor, where the mode takes one, a config.
    """
    refuse_empty(word)
    if mode.name == "import":
        return "source"
    if holds_run(word):
        return "workdir"
    if mode.needs_checkpoint:
        if has_flag("config", rest):  # which can stand in for a lost config.json
            return "workdir"
        raise Usage(f"{word!r} holds no run; {suggest_run(word) or 'train first'}")
    if exists_as_config(word):
        return "config"
    hint = suggest_run(word) if "/" in word or holds_weights(word) else ""
    hint = hint or config_file.suggest(word.partition(":")[0])
    raise Usage(f"{word!r} is neither a config nor a folder that holds a run; {hint}")


def holds_run(folder: str) -> bool:
    """Returns whether a folder holds the config.json of a run; foreign weights may have one of theirs."""
    return (paths.user_path(folder) / "config.json").exists() and not holds_weights(folder)


def holds_weights(folder: str) -> bool:
    """Returns whether a folder is one of diffusers'."""
    return (paths.user_path(folder) / "model_index.json").exists()


def exists_as_config(spec: str) -> bool:
    """Returns whether FILE or FILE:ROW names a config file."""
    return config_file.find(spec.partition(":")[0]) is not None


def suggest_run(word: str) -> str:
    """Returns a hint: runs of a similar name, in runs/ or beside the folder; "" without any."""
    if holds_weights(word) or paths.is_on_hub(word):
        return f"make one of these weights first: ddpm import {word}"
    if "://" in word:
        return ""
    parents = {epath.Path("runs"), paths.user_path(word).parent}
    readable = [path for path in parents if path.is_dir() and os.access(path, os.R_OK)]
    folders = [path for parent in readable for path in parent.iterdir()]
    runs = {path.name: str(path) for path in folders if holds_run(str(path))}
    close = difflib.get_close_matches(config_file.run_name(word), runs, n=3)
    return f"did you mean {' or '.join(runs[name] for name in close)}?" if close else ""
