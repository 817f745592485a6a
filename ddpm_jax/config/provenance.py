"""When user code that a run names may be imported: checked before anything of it is."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from ddpm_jax.run import record as records
from ddpm_jax.runtime import user_code

DATA = "data.name"  # programs that open no data set need none of its code
REMEDY = "if you trust this run, add --trust (in Python: trust=True) to use it"


def check(config: dict, directory: epath.Path, trust: bool) -> None:
    """Raises ValueError for user code that may only be imported with 'trust'; imports none.

    Without it, no module may lie in the run's folder. Names that the folder's config.json has too, which
    may come from elsewhere, must be of modules that are not installed, as they were when it was written.
    """
    if trust:
        return
    stored = records.read(directory) or {}
    before = records.user_names(stored.get("config", {}))
    for field, name in records.user_names(config):
        if user_code.is_inside(name, directory):
            raise ValueError(
                f"{field} is {name}, whose source lies in the run's folder {directory}; {REMEDY}"
            )
        if (field, name) in before:
            check_stored(field, name, stored.get("user_code", {}))


def check_stored(field: str, name: str, checksums: Mapping[str, Any]) -> None:
    """Raises ValueError unless a name of a run's config is that of the code with which it was trained.

    A missing data set is no error here, as most programs do not open it.
    """
    found = user_code.checksum(name)
    if not found and field != DATA and not user_code.is_installed(name):
        user_code.check_exists(f"this run's {field}", name)
    if user_code.is_installed(name):
        problem = f"{name}, code of an installed package"
    elif name not in checksums:
        problem = f"{name}, but its config.json has no checksum of that code"
    elif found and found != checksums[name]:
        file = user_code.describe(name)
        problem = f"{name}, and {file} has changed since the run was trained with it"
    else:
        return
    raise ValueError(f"this run's {field} is {problem}; {REMEDY}")
