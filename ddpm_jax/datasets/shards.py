"""Writes data sets in TFDS's format, shard by shard, so that a killed preparation can resume.

A shard is written under a temporary name and renamed when it is complete, and its content depends on its
number alone. So a resumed preparation keeps the complete shards, and ends with the same records.
"""

import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple, cast

import tensorflow_datasets as tfds
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
from etils import epath
from tensorflow_datasets.core import dataset_info, example_serializer, splits
from tqdm.auto import tqdm

from ddpm_jax.runtime import console, lock, signals

SUFFIX = "array_record"
SHARD = 1024  # items; some 100 MB at 256x256
LOG_INTERVAL = 60.0  # seconds


class Recipe(NamedTuple):
    """How to make a data set: 'example' returns one of 'count' items, or None to leave it out."""

    name: str  # for TFDS: NAME or NAME/CONFIG
    version: str
    source: str  # stored with the shards, so that those of two sources are not mixed
    features: tfds.features.FeaturesDict
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    example: Callable[[int], dict[str, Any] | None]


def directory(data_dir: epath.Path, recipe: Recipe) -> epath.Path:
    return data_dir / recipe.name / recipe.version


def write(data_dir: epath.Path, recipe: Recipe) -> epath.Path:
    """Returns the folder of the data set, which has one split, "train"; writes it if it does not exist.

    Threads decode and encode images. One process writes; others wait for it. Raises what
    recipe.example raises, and ValueError if an unfinished preparation used another source.
    """
    folder = directory(data_dir, recipe)
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    with lock.wait_for(lock_path(data_dir, recipe.name)):
        if folder.exists():
            return folder
        record_source(unfinished, recipe)
        names = write_shards(unfinished, recipe)
        write_info(unfinished, recipe, names)
        unfinished.rename(folder)
    return folder


def lock_path(data_dir: epath.Path, name: str) -> epath.Path:
    """The lock of a preparation, outside the data set's folder, because TFDS lists that folder's parents."""
    return data_dir / ".preparing" / name.replace("/", "-")


def record_source(unfinished: epath.Path, recipe: Recipe) -> None:
    """Writes source.txt. Raises ValueError if an earlier preparation has recorded another source."""
    unfinished.mkdir(parents=True, exist_ok=True)
    path, source = unfinished / "source.txt", f"{recipe.count} items of {recipe.source}\n"
    earlier = path.read_text() if path.exists() else ""
    if earlier not in ("", source):
        raise ValueError(
            f"{unfinished} was begun with {earlier.strip()}, but this is {source.strip()};"
            " delete it to start over"
        )
    path.write_text(source)


def write_shards(unfinished: epath.Path, recipe: Recipe) -> list[str]:
    """Writes the missing shards. Returns the names of all."""
    shards, base = -(-recipe.count // SHARD), recipe.name.partition("/")[0]
    names = [f"{base}-train.{SUFFIX}-{i:05d}-of-{shards:05d}" for i in range(shards)]
    missing = [number for number, name in enumerate(names) if not (unfinished / name).exists()]
    items = {n: range(n * SHARD, min((n + 1) * SHARD, recipe.count)) for n in missing}
    done = recipe.count - sum(map(len, items.values()))
    rate, logged = console.Rate.start(done), time.monotonic()
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        console.progress(f"preparing {recipe.name}", recipe.count, done, "image") as bar,
    ):
        for number in missing:
            write_shard(unfinished / names[number], recipe, items[number], pool, bar)
            done += len(items[number])
            if not console.is_interactive() and time.monotonic() - logged > LOG_INTERVAL:
                logged, left = time.monotonic(), (recipe.count - done) / rate.per_second(done)
                console.say(f"{done} of {recipe.count} images  ETA {console.format_duration(left)}")
    return names


def write_shard(
    path: epath.Path, recipe: Recipe, items: range, pool: ThreadPoolExecutor, bar: tqdm
) -> None:
    """Writes the examples of some items to a shard, which appears only when it is complete."""
    serializer = example_serializer.ExampleSerializer(
        cast(dict, recipe.features.get_serialized_info())
    )

    def serialize(item: int) -> bytes | None:
        example = recipe.example(item)
        bar.update()
        if example is None:
            return None
        return serializer.serialize_example(recipe.features.encode_example(example))

    temporary = path.with_name(f".{path.name}.tmp")
    writer = array_record_module.ArrayRecordWriter(os.fspath(temporary), "group_size:1")
    results = cast(Generator[bytes | None, None, None], pool.map(serialize, items))
    with closing(results) as records:
        for record in records:
            signals.check("while preparing the data set")
            if record is not None:
                writer.write(record)
    writer.close()
    if "://" not in str(path):
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name without content
    temporary.rename(path)


def write_info(unfinished: epath.Path, recipe: Recipe, names: list[str]) -> None:
    """Writes the files that describe the shards to TFDS. Raises RuntimeError if they hold no image."""
    readers = [
        array_record_module.ArrayRecordReader(os.fspath(unfinished / name)) for name in names
    ]
    lengths = [reader.num_records() for reader in readers]
    if sum(lengths) < recipe.count:
        skipped = recipe.count - sum(lengths)
        console.say(f"{skipped} of {recipe.count} images could not be read and were skipped")
    if not sum(lengths):
        raise RuntimeError(f"not one image of {recipe.source} could be read")
    base, _, config = recipe.name.partition("/")
    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=lengths,
        num_bytes=sum((unfinished / name).stat().length for name in names),
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=unfinished, dataset_name=base, split="train", filetype_suffix=SUFFIX
        ),
    )
    identity = dataset_info.DatasetIdentity(
        name=base,
        config_name=config or None,
        version=tfds.core.Version(recipe.version),
        data_dir=os.fspath(unfinished),
        module_name=__name__,
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=f"Made from {recipe.source}",
        features=recipe.features,
        metadata=tfds.core.MetadataDict(skipped=recipe.count - sum(lengths)),
    )
    info.set_file_format(SUFFIX)
    info.set_splits(splits.SplitDict([split]))
    info.write_to_directory(unfinished)
