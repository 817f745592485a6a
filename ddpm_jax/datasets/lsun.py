"""LSUN (Yu et al. 2015) at 256x256, from its LMDB, as StyleGAN2's release prepared it.

The paper trained on that data: central squares, resized with a Lanczos filter, in the LMDB's order, without
records that cannot be decoded. StyleGAN2 stored raw pixels; here the same pixels are stored as PNG.
"""

from typing import Any, cast

import tensorflow_datasets as tfds
from etils import epath

from ddpm_jax.datasets import shards
from ddpm_jax.datasets.encoding import decode_square, encode_png
from ddpm_jax.runtime import console

SIZE = 256
BLACK = 0  # LSUN has no transparent pictures


def recipe(name: str, source: epath.Path) -> shards.Recipe:
    """Stores the image and key of every record of an LMDB, which is a folder with a data.mdb.

    Raises ValueError if it cannot be read, or the package lmdb is not installed.
    """
    try:
        import lmdb  # an optional dependency, needed only to prepare LSUN
    except ModuleNotFoundError as error:
        raise ValueError(f"{name} needs lmdb: pip install 'ddpm_jax[lsun]'") from error
    if not (source / "data.mdb").is_file():
        raise ValueError(f"--source {source} is not a folder with a data.mdb; unzip LSUN's archive")
    try:
        # No lock file, as the folder may be read-only.
        records = lmdb.open(str(source), readonly=True, lock=False, readahead=False)
        with records.begin() as transaction:
            keys = list(transaction.cursor().iternext(values=False))
    except lmdb.Error as error:
        raise ValueError(f"--source {source} is not an LMDB: {error}") from error
    if not keys:
        raise ValueError(f"--source {source} holds no record")

    def example(item: int) -> dict[str, Any] | None:
        with records.begin() as transaction:
            content = cast(bytes, transaction.get(keys[item]))
        try:
            image = decode_square(content, SIZE, 3, BLACK)
        except Exception as error:  # pillow's plug-ins raise exceptions of all kinds
            console.say(f"skipped {keys[item].decode(errors='replace')}: {error}")
            return None
        return {"image": encode_png(image), "id": keys[item]}

    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(SIZE, SIZE, 3)), "id": tfds.features.Text()}
    )
    return shards.Recipe(
        name=name,
        version="1.0.0",
        source=f"the LMDB {source.name}, whose first key is {keys[0].decode(errors='replace')}",
        features=features,
        count=len(keys),
        example=example,
    )
