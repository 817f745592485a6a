"""CelebA-HQ (Karras et al. 2018) at 256x256: TFDS's data set, prepared without TensorFlow.

Its 30,000 images are made from CelebA and published differences by the tools of Progressive GAN's
release, which nobody may do for others; data256x256.tar is what TFDS asks for.
"""

import hashlib
import io
import tarfile
import threading

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from ddpm_jax.datasets import shards

SIZE = 256


def recipe(name: str, source: epath.Path) -> shards.Recipe:
    """Image and file name of every member of a .tar, whose bytes are kept as they are.

    By a hash of their names, so that any slice of the order is a fair sample. Raises ValueError if
    there is no such archive, RuntimeError for a member that is no image of 256x256.
    """
    try:
        archive = tarfile.open(fileobj=source.open("rb"), mode="r:")  # noqa: SIM115  (read to the end)
        members = [member for member in archive if member.isfile() and not hidden(member.name)]
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"--source {source} is no .tar archive of images: {error}") from error
    if not members:
        raise ValueError(f"--source {source} holds no file")
    members.sort(key=lambda member: hashlib.sha256(member.name.encode()).digest())
    reading = threading.Lock()

    def example(item: int):
        member = members[item]
        with reading:
            content = archive.extractfile(member).read()
        try:
            shape = np.asarray(Image.open(io.BytesIO(content))).shape
        except Exception as error:  # pillow's plug-ins raise whatever they like
            raise RuntimeError(f"{member.name} of {source} cannot be read: {error}") from error
        if shape != (SIZE, SIZE, 3):
            raise RuntimeError(
                f"{member.name} of {source} is of shape {shape}, not {(SIZE, SIZE, 3)}"
            )
        return {"image": io.BytesIO(content), "image/filename": member.name}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
            "image/filename": tfds.features.Text(),
        }
    )
    described = f"data256x256.tar of {source.stat().length} bytes"
    return shards.Recipe(name, "2.0.0", described, features, len(members), example)


def hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")
