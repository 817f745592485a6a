"""Data sets written shard by shard, in TFDS's form: a preparation that was killed goes on.

A shard is written under another name and renamed when it is whole; what it holds depends on its
number alone. So whoever goes on keeps the whole ones, and ends with the same files.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from etils import epath
from tqdm.auto import tqdm

from ddpm_jax import report

SUFFIX = "array_record"
SHARD = 1024  # items; some tens of MB at 256x256


class Recipe(NamedTuple):
    """What a data set is made of: 'example' makes one of 'count' items, or None to leave it out."""

    name: str
    description: str
    features: tfds.features.FeaturesDict
    count: int
    example: Callable[[int], dict[str, Any] | None]


def write(directory: epath.Path, recipe: Recipe) -> None:
    """Makes 'directory' the data set, with the one split "train", unless it is there.

    Images are decoded and encoded by threads. Raises what recipe.example raises.
    """
    if directory.exists():
        return
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    shards = -(-recipe.count // SHARD)
    names = [f"{recipe.name}-train.{SUFFIX}-{i:05d}-of-{shards:05d}" for i in range(shards)]
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        report.progress(f"preparing {recipe.name}", recipe.count, unit="image") as bar,
    ):
        for number, name in enumerate(names):
            items = range(number * SHARD, min((number + 1) * SHARD, recipe.count))
            if (unfinished / name).exists():
                bar.update(len(items))
            else:
                write_shard(unfinished / name, recipe, items, pool, bar)
    write_info(unfinished, recipe, names)
    unfinished.rename(directory)


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
    for record in pool.map(serialized, items):
        if record is not None:
            writer.write(record)
    writer.close()
    temporary.rename(path)


def write_info(directory: epath.Path, recipe: Recipe, names: list[str]) -> None:
    """The files that tell TFDS what the shards hold."""
    readers = [array_record_module.ArrayRecordReader(os.fspath(directory / name)) for name in names]
    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=[reader.num_records() for reader in readers],
        num_bytes=sum((directory / name).stat().length for name in names),
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=directory, dataset_name=recipe.name, split="train", filetype_suffix=SUFFIX
        ),
    )
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=recipe.name,
        version=tfds.core.Version("1.0.0"),
        data_dir=os.fspath(directory),
        module_name=__name__,
    )
    info = tfds.core.DatasetInfo(
        builder=identity, description=recipe.description, features=recipe.features
    )
    info.set_file_format(SUFFIX)
    info.set_splits(tfds.core.splits.SplitDict([split]))
    info.write_to_directory(directory)
