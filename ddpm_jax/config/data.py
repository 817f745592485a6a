"""The data section of a config: a data set by name, or a folder of the user's own pictures."""

from collections.abc import Mapping
from typing import Any

from ddpm_jax.config import validate
from ddpm_jax.datasets.source import Data, Folder


def folder(**fields: Any) -> Folder:
    """Returns a section with a folder of pictures. Raises ValueError for numbers out of range."""
    chosen = validate.section(Folder, "data", fields)
    validate.at_least(1, "data", image_size=chosen.image_size)
    if chosen.channels not in (1, 3):
        raise ValueError(f"data.channels is {chosen.channels}; it must be 1 (gray) or 3")
    if not 0 <= chosen.background <= 255:
        raise ValueError(f"data.background is {chosen.background}; it must lie between 0 and 255")
    return chosen


def data_source(fields: Mapping[str, Any]) -> Data | Folder:
    """Returns the section: a Folder if it has a 'path', else Data. Raises ValueError if it is invalid."""
    return folder(**fields) if "path" in fields else validate.section(Data, "data", fields)
