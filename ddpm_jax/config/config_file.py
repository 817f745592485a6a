"""Config files: Python files whose get_config() returns a ConfigDict."""

import re
import runpy
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.runtime import files, paths


def load(spec: str) -> ConfigDict:
    """Returns the config that FILE defines, or the row ROW of a file with several, as FILE:ROW.

    FILE is a path or the name of one of the project's configs. Raises ValueError if it does not exist
    or fails.
    """
    file, _, row = spec.partition(":")
    path = find(file)
    if path is None:
        raise ValueError(f"--config: {file} does not exist; {suggest(file)}")
    try:
        get_config = runpy.run_path(str(path))["get_config"]
        config = get_config(row) if row else get_config()
        return ConfigDict(config)
    except Exception as error:  # a config file is a program
        raise ValueError(f"--config {spec}: {type(error).__name__}: {error}") from error


def find(file: str) -> epath.Path | None:
    """Returns the path of a config file, or None if it does not exist.

    The project's own are found from any folder, as digits or configs/digits.py, unless the current
    folder has such a file.
    """
    candidates = [paths.user_path(file)]
    if own := re.fullmatch(r"(?:configs/)?(\w+)(?:\.py)?", file):
        candidates += [folder / f"{own[1]}.py" for folder in folders()]
    return next(filter(paths.is_file, candidates), None)


def folders() -> tuple[epath.Path, epath.Path]:
    """Returns the folders in which configs have names, the first one first."""
    return epath.Path("configs"), package_folder()


def package_folder() -> epath.Path:
    """Returns the folder of the project's configs: in a wheel inside the package, in a clone beside it."""
    package = epath.Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.with_name("configs")


def suggest(file: str) -> str:
    """Returns a hint for a file that does not exist: configs whose name is near, else all of them."""
    if paths.is_file(paths.user_path(f"{file}.py")):
        return f"did you mean {file}.py?"
    names = {path.stem for folder in folders() if folder.is_dir() for path in folder.glob("*.py")}
    return files.suggest(Path(file).stem, names)


def run_name(spec: str) -> str:
    """Returns a run's name: digits for configs/digits.py, ablation-row for configs/ablation.py:row."""
    file, _, row = spec.partition(":")
    return f"{Path(file).stem}-{row}" if row else Path(file).stem
