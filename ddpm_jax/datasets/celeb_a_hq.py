"""CelebA-HQ (Karras et al. 2018) at 256x256: TFDS's data set, prepared without TensorFlow.

The tools of Progressive GAN's release make its 30,000 images from CelebA and published differences; its
terms forbid redistributing them. As with TFDS, users pack the images in data256x256.tar themselves.
"""

import hashlib
import io
import tarfile
import threading
from typing import IO, Any, cast

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from ddpm_jax.datasets import shards

SIZE = 256


def recipe(name: str, source: epath.Path) -> shards.Recipe:
    """Stores every member of a .tar, its bytes unchanged, with its file name.

    The order is by a hash of the names, so that any slice of it is a fair sample. Raises ValueError if
    the archive cannot be read; the examples raise RuntimeError for a member that is not a 256x256 image.
    """
    try:
        archive = tarfile.open(fileobj=source.open("rb"), mode="r:")  # noqa: SIM115  (read to the end)
        members = [member for member in archive if member.isfile() and not is_hidden(member.name)]
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"--source {source} is not a .tar archive of images: {error}") from error
    if not members:
        raise ValueError(f"--source {source} holds no file")
    members.sort(key=lambda member: hashlib.sha256(member.name.encode()).digest())
    lock = threading.Lock()  # the threads share the archive's file position

    def example(item: int) -> dict[str, Any]:
        member = members[item]
        with lock:
            content = cast(IO[bytes], archive.extractfile(member)).read()
        try:
            shape = np.asarray(Image.open(io.BytesIO(content))).shape
        except Exception as error:  # pillow's plug-ins raise exceptions of all kinds
            raise RuntimeError(f"{member.name} of {source} cannot be read: {error}") from error
        if shape != (SIZE, SIZE, 3):
            raise RuntimeError(
                f"{member.name} of {source} has shape {shape}, not {(SIZE, SIZE, 3)}"
            )
        return {"image": io.BytesIO(content), "image/filename": member.name}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
            "image/filename": tfds.features.Text(),
        }
    )
    return shards.Recipe(
        name=name,
        version="2.0.0",
        source=f"data256x256.tar of {source.stat().length} bytes",
        features=features,
        count=len(members),
        example=example,
    )


def is_hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")
