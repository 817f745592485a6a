"""Samples that are there already, whoever made them: a .npz, a .npy or a folder of pictures."""

import numpy as np
from etils import epath

from ddpm_jax.datasets import arrays, image_folder
from ddpm_jax.datasets.encoding import upright
from ddpm_jax.metrics.features import Bytes


def images(path: epath.Path, shape: tuple[int, int, int]) -> Bytes:
    """Images of a .npz, a .npy or a folder. Raises ValueError unless they are uint8 and of 'shape'."""
    if arrays.is_array(path):
        arrays.check_there(path, "eval.quality.path")
        found, _ = arrays.images_and_labels(path, "eval.quality.path")
    else:
        found = pictures(path, shape)
    if found.shape[1:] != shape:
        raise ValueError(
            f"the samples of {path} are of shape {found.shape[1:]}, the run's images of {shape}"
        )
    if len(found) < 4:  # precision and recall look at third neighbours
        raise ValueError(f"{path} holds {len(found)} samples; scores need 4 or more")
    return np.asarray(found)


def pictures(folder: epath.Path, shape: tuple[int, int, int]) -> Bytes:
    """All pictures of a folder, in the order of their names."""
    images = []
    for name in sorted(image_folder.pictures(folder, "eval.quality.path").paths):
        try:
            image = np.asarray(upright((folder / name).read_bytes(), shape[2], 255))
        except Exception as error:  # pillow's plug-ins raise whatever they like
            raise ValueError(f"{folder / name} cannot be read: {error}") from error
        images.append(image.reshape(*image.shape[:2], shape[2]))
        if images[-1].shape != shape:
            raise ValueError(
                f"{folder / name} is of shape {images[-1].shape}, the run's images of {shape}"
            )
    return np.stack(images)
