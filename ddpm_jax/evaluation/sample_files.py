"""Reads samples written by any program: an .npz, an .npy or a folder of pictures."""

import numpy as np
from etils import epath

from ddpm_jax.datasets import arrays, image_folder
from ddpm_jax.datasets.encoding import decode_upright
from ddpm_jax.metrics.features import Bytes

FIELD = "eval.quality.path"


def read(path: epath.Path, shape: tuple[int, int, int]) -> Bytes:
    """Reads the images of a file or folder.

    Raises ValueError if an image does not have 'shape', an array is not uint8, or there are fewer than 4.
    """
    if arrays.is_array(path):
        arrays.check_exists(path, FIELD)
        images, _ = arrays.read_images(path, FIELD)
    else:
        images = read_folder(path, shape)
    if images.shape[1:] != shape:
        raise ValueError(
            f"the samples in {path} have shape {images.shape[1:]}, the run's images {shape}"
        )
    if len(images) < 4:  # precision and recall need third-nearest neighbours
        raise ValueError(f"{path} holds {len(images)} samples; metrics need 4 or more")
    return np.asarray(images)


def read_folder(folder: epath.Path, shape: tuple[int, int, int]) -> Bytes:
    """Reads all pictures of a folder, sorted by name."""
    images = []
    for name in sorted(image_folder.find_pictures(folder, FIELD).paths):
        try:
            image = np.asarray(decode_upright((folder / name).read_bytes(), shape[2], 255))
        except Exception as error:  # pillow's plug-ins raise exceptions of all kinds
            raise ValueError(f"{folder / name} cannot be read: {error}") from error
        images.append(image.reshape(*image.shape[:2], shape[2]))
        if images[-1].shape != shape:
            raise ValueError(
                f"{folder / name} has shape {images[-1].shape}, the run's images {shape}"
            )
    return np.stack(images)
