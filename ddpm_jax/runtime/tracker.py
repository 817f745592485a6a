"""Weights & Biases: training's numbers and sample grids in a run of that service, for train.tracker = "wandb".

A run keeps one id, in wandb.json, so that a resumed run continues the same curves. Whatever goes wrong with the
service is said once and does not stop training: the numbers are in metrics.jsonl anyway.
"""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from ddpm_jax.runtime import console, files

PROJECT = "ddpm_jax"  # unless WANDB_PROJECT names another
FINISH = 60.0  # seconds that the end of training waits for an upload, unless WANDB_FINISH_TIMEOUT says so
INSTALL = "pip install 'ddpm_jax[wandb]'"


class Tracker(NamedTuple):
    """A run of the service."""

    library: Any
    run: Any
    failures: list[str]  # the first ends the reports

    def report(self, step: int, values: Mapping[str, Any]) -> None:
        """Sends the values of a step; the library does so in a process of its own."""
        if self.failures:
            return
        try:
            self.run.log(dict(values), step=step)
        except Exception as error:  # of whatever kind: training goes ahead without
            self.failures.append(str(error))
            console.say(
                f"wandb    failed at step {step}, and is left out from here: {one_line(error)}"
            )

    def report_images(self, step: int, images: Mapping[str, Any]) -> None:
        self.report(step, {name: self.library.Image(image) for name, image in images.items()})

    def close(self) -> None:
        """Ends the run, as failed if an exception is passing."""
        try:
            self.run.finish(exit_code=1 if sys.exc_info()[0] else 0)
        except Exception as error:
            console.say(f"wandb    did not end well: {one_line(error)}")


def import_library() -> Any:
    """Imports wandb. Raises ValueError if it is not installed."""
    try:
        import wandb  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"train.tracker is 'wandb', which is not installed: {INSTALL}") from None
    return wandb


def check(name: str) -> None:
    """Raises ValueError if the library of a tracker is not installed; "" is no tracker."""
    if name:
        import_library()


def open_run(name: str, directory: epath.Path, config: Mapping[str, Any]) -> Tracker | None:
    """Starts or continues the service's run of a folder; None without a tracker.

    If the service cannot be reached, or there is no key, the library records on this machine instead.
    """
    if not name:
        return None
    wandb = import_library()
    local = "://" not in str(directory)
    waits = {} if "WANDB_FINISH_TIMEOUT" in os.environ else {"finish_timeout": FINISH}
    arguments = {
        "project": os.environ.get("WANDB_PROJECT") or PROJECT,
        "id": run_id(directory),
        "resume": "allow",
        "name": directory.name,
        "config": dict(config),
        "dir": str(directory) if local else None,
        "reinit": "create_new",  # leaves alone what a notebook has open
    }
    # Its lines, and its capture of ours, would break the progress bars.
    settings = wandb.Settings(silent=True, console="off", **waits)
    for mode in (None, "offline"):  # None is the user's, online by default
        try:
            run = wandb.init(**arguments, settings=settings, mode=mode)
        except Exception as error:  # of its own classes, which vary with the version
            console.say(f"wandb    could not start{' offline' * bool(mode)}: {one_line(error)}")
            wandb.teardown()  # else the id stays taken
        else:
            say_place(run)
            return Tracker(library=wandb, run=run, failures=[])
    return None


def run_id(directory: epath.Path) -> str:
    """Returns the id of a folder's run, and makes one up for a new folder."""
    path = directory / "wandb.json"
    if path.exists():
        return json.loads(path.read_text())["id"]
    id = secrets.token_hex(4)
    files.write_json(path, {"id": id})
    return id


def say_place(run: Any) -> None:
    """Prints where the run can be seen, or how to send what is recorded here."""
    if run.settings.mode == "offline":
        folder = run.settings.sync_dir
        console.say(f"wandb    records in {folder}; wandb sync {folder} sends it")
    elif run.settings.mode != "disabled":
        console.say(f"wandb    {run.url}")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
