"""Data sets of our own as TFDS builders; importing this package registers them by name."""

import tensorflow_datasets as tfds

from ddpm_jax.datasets import digits, image_folder  # noqa: F401  (digits registers itself)


def preparer(builder: tfds.core.DatasetBuilder, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """A builder that prepares the same data set without TensorFlow, or the same where we have none."""
    if builder.name == "cifar10":
        from ddpm_jax.datasets.cifar10 import Cifar10  # TFDS's module takes a second to import

        return Cifar10(data_dir=data_dir)
    return builder
