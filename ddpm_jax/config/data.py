"""The data section of a config: a data set by name, a folder of pictures, or user code."""

from collections.abc import Mapping
from typing import Any

from ddpm_jax.config import validate
from ddpm_jax.datasets.own import Own
from ddpm_jax.datasets.source import Data, Folder
from ddpm_jax.runtime import user_code


def folder(**fields: Any) -> Folder:
    """Returns a section with a folder of pictures. Raises ValueError for numbers out of range."""
    chosen = validate.section(Folder, "data", fields)
    validate.at_least(1, "data", image_size=chosen.image_size)
    if chosen.channels not in (1, 3):
        raise ValueError(f"data.channels is {chosen.channels}; it must be 1 (gray) or 3")
    if not 0 <= chosen.background <= 255:
        raise ValueError(f"data.background is {chosen.background}; it must lie between 0 and 255")
    return chosen


def data_source(fields: Mapping[str, Any]) -> Data | Folder | Own:
    """Returns the section: a Folder if it has a 'path', Own if user code is its name, else Data.

    Raises ValueError if it is invalid. Imports no user code: that is for 'open'.
    """
    if user_code.is_name(fields.get("name")):
        return validate.section(Own, "data", fields)
    return folder(**fields) if "path" in fields else validate.section(Data, "data", fields)
