"""LSUN (Yu et al. 2015) at 256x256, from its LMDB, as StyleGAN2's release prepared it.

The paper trained on that: the square at the centre, Lanczos to 256, in the LMDB's order; a record that
cannot be decoded is left out. StyleGAN2 stored the pixels raw, here they are in PNG: the same pixels.
"""

import tensorflow_datasets as tfds
from etils import epath

from ddpm_jax.datasets import shards
from ddpm_jax.datasets.encoding import picture, png
from ddpm_jax.runtime import console

SIZE = 256
BLACK = 0  # LSUN has no transparent pictures


def recipe(name: str, source: epath.Path) -> shards.Recipe:
    """Image and key of every record of an LMDB, the folder that holds data.mdb.

    Raises ValueError if it does not exist, or lmdb is not installed.
    """
    try:
        import lmdb  # only whoever prepares LSUN needs it
    except ModuleNotFoundError as error:
        raise ValueError(f"{name} needs lmdb: pip install 'ddpm_jax[lsun]'") from error
    if not (source / "data.mdb").is_file():
        raise ValueError(f"--source {source} is not a folder with a data.mdb; unzip LSUN's archive")
    try:
        # Without its lock file: the folder may be read-only, and nobody writes it.
        records = lmdb.open(str(source), readonly=True, lock=False, readahead=False)
        with records.begin() as transaction:
            keys = list(transaction.cursor().iternext(values=False))
    except lmdb.Error as error:
        raise ValueError(f"--source {source} is no LMDB: {error}") from error
    if not keys:
        raise ValueError(f"--source {source} holds no record")

    def example(item: int):
        with records.begin() as transaction:
            content = transaction.get(keys[item])
        try:
            image = picture(content, SIZE, 3, BLACK)
        except Exception as error:  # pillow's plug-ins raise whatever they like
            console.say(f"skipped {keys[item].decode(errors='replace')}: {error}")
            return None
        return {"image": png(image), "id": keys[item]}

    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(SIZE, SIZE, 3)), "id": tfds.features.Text()}
    )
    described = f"the LMDB {source.name}, whose first key is {keys[0].decode(errors='replace')}"
    return shards.Recipe(name, "1.0.0", described, features, len(keys), example)
