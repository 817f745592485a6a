"""eval/<step>-quality.json: the newest measurement of sample quality, and earlier ones of anything else.

The newest is the file's own content, so that it reads as it did when there was only one. The others, such
as those of another sampler's samples, are the list 'earlier', the newest first.
"""

import json
from typing import Any

from etils import epath

from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files

RESULTS = ("scores", "seconds", "earlier")
Record = dict[str, Any]


def file_path(run: Run, step: int) -> epath.Path:
    return run.directory / "eval" / f"{step}-{run.prefix}quality.json"


def read(run: Run, step: int) -> list[Record]:
    """Returns the measurements of a step, the newest first; none of a missing or damaged file."""
    path = file_path(run, step)
    if not path.exists():
        return []
    try:
        newest = dict(json.loads(path.read_text()))
        return [newest, *map(dict, newest.pop("earlier", []))]
    except (ValueError, TypeError) as error:
        console.say(f"{path} is damaged and will be replaced: {error}")
        return []


def write(run: Run, step: int, record: Record) -> None:
    """Adds a measurement, in place of an earlier one of the same subject."""
    record = json.loads(json.dumps(record))
    others = [each for each in read(run, step) if subject(each) != subject(record)]
    files.write_json(file_path(run, step), record | {"earlier": others})


def subject(record: Record) -> Record:
    """Returns what was measured, and how: all of a measurement but its results."""
    return {name: value for name, value in record.items() if name not in RESULTS}


def find(run: Run, step: int, facts: Record) -> Record | None:
    """Returns the newest measurement of a step with these facts."""
    return next((each for each in read(run, step) if facts.items() <= each.items()), None)
