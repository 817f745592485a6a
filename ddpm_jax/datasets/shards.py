"""Data sets written shard by shard, in TFDS's form: a preparation that was killed goes on.

A shard is written under another name and renamed when it is whole; what it holds depends on its
number alone. So whoever goes on keeps the whole ones, and ends with the same records.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from etils import epath
from tqdm.auto import tqdm

from ddpm_jax.runtime import console, lock, signals

SUFFIX = "array_record"
SHARD = 1024  # items; some 100 MB at 256x256
GAP = 60.0  # seconds between the lines of a log


class Recipe(NamedTuple):
    """What a data set is made of: 'example' makes one of 'count' items, or None to leave it out."""

    name: str  # as TFDS has it, NAME or NAME/CONFIG
    version: str
    source: str  # what it is made from, so that shards of two sources are not mixed
    features: tfds.features.FeaturesDict
    count: int
    example: Callable[[int], dict[str, Any] | None]


def directory(data_dir: epath.Path, recipe: Recipe) -> epath.Path:
    return data_dir / recipe.name / recipe.version


def write(data_dir: epath.Path, recipe: Recipe) -> epath.Path:
    """The folder of the data set, with the one split "train", made unless it is there.

    Images are decoded and encoded by threads. One process writes; others wait for it. Raises what
    recipe.example raises, and ValueError if the folder holds a preparation from something else.
    """
    made = directory(data_dir, recipe)
    if made.exists():
        return made
    unfinished = made.with_name(f"{made.name}.unfinished")
    with lock.wait_for(locks(data_dir, recipe.name)):
        if made.exists():
            return made
        begin(unfinished, recipe)
        names = write_shards(unfinished, recipe)
        write_info(unfinished, recipe, names)
        unfinished.rename(made)
    return made


def locks(data_dir: epath.Path, name: str) -> epath.Path:
    """Apart from the data set's own folder, whose parents TFDS lists."""
    return data_dir / ".preparing" / name.replace("/", "-")


def begin(unfinished: epath.Path, recipe: Recipe) -> None:
    unfinished.mkdir(parents=True, exist_ok=True)
    note, made_of = unfinished / "source.txt", f"{recipe.count} items of {recipe.source}\n"
    before = note.read_text() if note.exists() else ""
    if before not in ("", made_of):
        raise ValueError(
            f"{unfinished} was begun with {before.strip()}, and this is {made_of.strip()};"
            " delete it to start over"
        )
    note.write_text(made_of)


def write_shards(unfinished: epath.Path, recipe: Recipe) -> list[str]:
    """The names of the shards, those that were not there before written now."""
    shards, base = -(-recipe.count // SHARD), recipe.name.partition("/")[0]
    names = [f"{base}-train.{SUFFIX}-{i:05d}-of-{shards:05d}" for i in range(shards)]
    missing = [number for number, name in enumerate(names) if not (unfinished / name).exists()]
    items = {n: range(n * SHARD, min((n + 1) * SHARD, recipe.count)) for n in missing}
    done = recipe.count - sum(map(len, items.values()))
    rate, told = console.Rate.start(done), time.monotonic()
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        console.progress(f"preparing {recipe.name}", recipe.count, done, "image") as bar,
    ):
        for number in missing:
            write_shard(unfinished / names[number], recipe, items[number], pool, bar)
            done += len(items[number])
            if not console.is_interactive() and time.monotonic() - told > GAP:
                told, left = time.monotonic(), (recipe.count - done) / rate.at(done)
                console.say(f"{done} of {recipe.count} images  ETA {console.format_duration(left)}")
    return names


def write_shard(
    path: epath.Path, recipe: Recipe, items: range, pool: ThreadPoolExecutor, bar: tqdm
) -> None:
    serializer = tfds.core.example_serializer.ExampleSerializer(
        recipe.features.get_serialized_info()
    )

    def serialized(item: int) -> bytes | None:
        example = recipe.example(item)
        bar.update()
        if example is None:
            return None
        return serializer.serialize_example(recipe.features.encode_example(example))

    temporary = path.with_name(f".{path.name}.tmp")
    writer = array_record_module.ArrayRecordWriter(os.fspath(temporary), "group_size:1")
    with closing(pool.map(serialized, items)) as records:
        for record in records:
            signals.check("in its preparation")
            if record is not None:
                writer.write(record)
    writer.close()
    if "://" not in str(path):
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut may leave the new name and no content
    temporary.rename(path)


def write_info(unfinished: epath.Path, recipe: Recipe, names: list[str]) -> None:
    """The files that tell TFDS what the shards hold. Raises RuntimeError if that is nothing."""
    readers = [
        array_record_module.ArrayRecordReader(os.fspath(unfinished / name)) for name in names
    ]
    lengths = [reader.num_records() for reader in readers]
    if sum(lengths) < recipe.count:
        left_out = recipe.count - sum(lengths)
        console.say(f"{left_out} of {recipe.count} images could not be read and were skipped")
    if not sum(lengths):
        raise RuntimeError(f"not one image of {recipe.source} could be read")
    base, _, form = recipe.name.partition("/")
    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=lengths,
        num_bytes=sum((unfinished / name).stat().length for name in names),
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=unfinished, dataset_name=base, split="train", filetype_suffix=SUFFIX
        ),
    )
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=base,
        config_name=form or None,
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
    info.set_splits(tfds.core.splits.SplitDict([split]))
    info.write_to_directory(unfinished)
