"""CIFAR-10 as TFDS has it, prepared without TensorFlow.

TFDS's own builder, whose name, version, features and record order it keeps, opens and extracts the
archive with TensorFlow. Reading what either has prepared needs none.
"""

import tarfile
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import cifar

from ddpm_jax.datasets.encoding import png

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
TRAIN = [f"data_batch_{i}.bin" for i in range(1, 6)]
TEST = ["test_batch.bin"]
PIXELS = 3 * 32 * 32


class Cifar10(cifar.Cifar10, skip_registration=True):
    """Splits: 50,000 to train, 10,000 to test."""

    name = "cifar10"
    url_infos = cifar.Cifar10.url_infos  # the archive's size and checksum

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        files = unpacked(dl_manager.download(URL))
        self.info.features["label"].names = files["batches.meta.txt"].decode().split()
        return {
            "train": self._generate_examples("train_", b"".join(files[name] for name in TRAIN)),
            "test": self._generate_examples("test_", b"".join(files[name] for name in TEST)),
        }

    def _generate_examples(self, prefix: str, content: bytes) -> Iterator[tuple[int, dict]]:
        """Records of a label and 3 planes of 32x32 pixels; their keys settle the order in files."""
        records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
        for index, record in enumerate(records):
            image = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
            yield (
                index,
                {
                    "id": f"{prefix}{index:05d}",
                    "image": png(np.ascontiguousarray(image)),
                    "label": int(record[0]),
                },
            )


def unpacked(archive) -> dict[str, bytes]:
    """The files of a .tar.gz by their names without folders."""
    with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r|gz") as tar:
        return {
            member.name.rpartition("/")[2]: tar.extractfile(member).read()
            for member in tar
            if member.isfile()
        }
