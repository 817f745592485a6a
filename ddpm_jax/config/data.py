"""The data section of a config: a data set by its name, or the user's own pictures."""

from collections.abc import Mapping
from typing import Any

from ddpm_jax.config import validate
from ddpm_jax.datasets.source import Data, Folder


def folder(**fields: Any) -> Folder:
    """Raises ValueError for numbers that no picture can have."""
    chosen = validate.section(Folder, "data", fields)
    validate.at_least(1, "data", image_size=chosen.image_size)
    if chosen.channels not in (1, 3):
        raise ValueError(f"data.channels is {chosen.channels}; it must be 1 (gray) or 3")
    if not 0 <= chosen.background <= 255:
        raise ValueError(f"data.background is {chosen.background}; it must lie between 0 and 255")
    return chosen


def data_source(fields: Mapping[str, Any]) -> Data | Folder:
    """A section with a 'path' is of the user's own pictures. Raises ValueError for wrong fields."""
    return folder(**fields) if "path" in fields else validate.section(Data, "data", fields)
