"""How many images of a data set a split such as "train[95%:]" holds."""

from collections.abc import Mapping

import tensorflow_datasets as tfds

LARGEST = 1000  # images up to which 'smallest' looks


def count(split: str, total: int) -> int:
    """Returns the number of images in a split of a data set whose only split is "train"."""
    whole = tfds.core.SplitInfo(name="train", shard_lengths=[total], num_bytes=0)
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute({"train": whole})
    except ValueError:
        # A slice beyond the end is empty. A split that does not exist is reported when it is opened.
        return 0 if split.startswith("train[") else total
    return sum(
        max(0, (total if part.to is None else part.to) - (part.from_ or 0)) for part in parts
    )


def smallest(split: str) -> int | None:
    """Returns the fewest images with which a split is not empty, or None if LARGEST are too few."""
    return next((total for total in range(1, LARGEST) if count(split, total)), None)


def check(fields: Mapping[str, str], total: int, source: str) -> None:
    """Raises ValueError for a split, by the config's field, that holds no image of 'source'."""
    for field, split in fields.items():
        if not count(split, total):
            enough = smallest(split)
            raise ValueError(
                f"{field} {split!r} holds none of the {total} pictures of {source}"
                + (f"; it takes {enough} or more" if enough else "")
                + ". Add pictures, or choose other numbers in data.split and data.held_out"
            )
