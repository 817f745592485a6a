"""The data section of a config: a data set by its name, or the user's own pictures."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ddpm_jax import data, settings


class Data(NamedTuple):
    name: str
    data_dir: str
    image_size: int  # the height
    split: str
    held_out: str  # "" where there is none
    flip: bool

    def open(self, split: str) -> data.Source:
        return data.source(self.name, self.data_dir, split, self.image_size)

    def declared(self) -> tuple[tuple[int, int, int], int]:
        """Shape and grey levels of images, without them."""
        return data.declared(self.name, self.data_dir, self.image_size)


class Folder(NamedTuple):
    """A data section with a 'path': the user's own pictures."""

    name: str
    path: str
    data_dir: str
    image_size: int
    channels: int
    background: int  # the gray behind transparent pictures
    skip_unreadable: bool
    split: str
    held_out: str
    flip: bool

    def open(self, split: str) -> data.Source:
        form = (self.image_size, self.channels, self.background, self.skip_unreadable)
        return data.folder(self.path, self.data_dir, split, *form)

    def declared(self) -> tuple[tuple[int, int, int], int]:
        """Shape and grey levels of pictures, without them."""
        return (self.image_size, self.image_size, self.channels), 256


def folder(**fields: Any) -> Folder:
    """Raises ValueError for numbers that no picture can have."""
    chosen = settings.section(Folder, "data", fields)
    settings.at_least(1, "data", image_size=chosen.image_size)
    if chosen.channels not in (1, 3):
        raise ValueError(f"data.channels is {chosen.channels}; it must be 1 (gray) or 3")
    if not 0 <= chosen.background <= 255:
        raise ValueError(f"data.background is {chosen.background}; it must lie between 0 and 255")
    return chosen


def of(fields: Mapping[str, Any]) -> Data | Folder:
    """A section with a 'path' is of the user's own pictures. Raises ValueError for wrong fields."""
    return folder(**fields) if "path" in fields else settings.section(Data, "data", fields)
