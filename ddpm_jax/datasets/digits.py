"""scikit-learn's 1797 handwritten digits, 8x8 pixels of 17 grey levels, as a TFDS data set.

They come with the library, so the data set is prepared offline, without TensorFlow. The source
is the test set of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits" (UCI, 1998).
"""

import numpy as np
import tensorflow_datasets as tfds

from ddpm_jax.datasets.encoding import encode_png


class Digits(tfds.core.GeneratorBasedBuilder):
    """Splits: 1437 training images, 360 test images, drawn once with seed 0."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 8x8 pixels; grey levels are 0..16, not 0..255.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(levels=17),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        from sklearn.datasets import load_digits  # a second to import; needed only to prepare

        images, labels = load_digits(return_X_y=True)
        images = images.astype(np.uint8).reshape(-1, 8, 8)
        order = np.random.default_rng(0).permutation(len(images))
        held_out = len(images) // 5 + 1
        test, train = order[:held_out], order[held_out:]
        return {
            "train": self._generate_examples(images, labels, train),
            "test": self._generate_examples(images, labels, test),
        }

    def _generate_examples(self, images, labels, indices):
        for i in indices:
            yield int(i), {"image": encode_png(images[i]), "label": int(labels[i])}
