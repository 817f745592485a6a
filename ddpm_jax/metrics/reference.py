"""Reference statistics in files: ours, which say what they are of, and the ones in circulation.

Ours is an .npz with TTUR's keys mu and sigma, which others' programs read too, and 'record', JSON.
"""

import json
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8

from ddpm_jax.metrics import frechet
from ddpm_jax.metrics.features import Space
from ddpm_jax.metrics.frechet import Statistics
from ddpm_jax.runtime import foreign

GET = "make statistics anew from the data, or get the file again"
KEYS = "mu and sigma (ours, TTUR's, EDM's), pool_3 (score_sde's) or arr_0 (images, OpenAI's)"
CHUNK = 1000  # images whose features are made at a time


class Reference(NamedTuple):
    """What samples are compared with, and as much of it as its file holds."""

    statistics: Statistics
    record: dict[str, Any] | None  # space, settings, data; None: unrecorded, a foreign file
    spatial: Statistics | None = None
    vectors: Float[np.ndarray, "n d"] | None = None
    images: UInt8[np.ndarray, "n h w c"] | None = None


def packed(
    statistics: Statistics, space: Space, data: Any, spatial: Statistics | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a file: statistics in a space; 'data', of JSON's types, says what of."""
    record = {"space": space.name, "settings": space.settings, "data": data}
    arrays = {"mu": statistics.mean, "sigma": statistics.covariance}
    arrays |= {"count": np.asarray(statistics.count), "record": np.asarray(json.dumps(record))}
    if spatial:
        arrays |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
    return arrays


def read(
    path: epath.PathLike, space: Space, shape: tuple[int, int, int] = (32, 32, 3)
) -> Reference:
    """The reference that a file holds, in a space; images without statistics are put into it.

    An unrecorded file is held to the dimensions of the features of images of 'shape'.
    Raises ValueError, one line, for statistics of another space or with other settings, other
    dimensions, NaN, wrong shapes, or a file that is no such thing or is damaged.
    """
    path = epath.Path(path)
    head = foreign.check(path, GET)
    if not head.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path} is no .npz; it begins {head[:8]!r}; {GET}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            wanted = [key for key in KINDS if key in arrays.files]
            if not wanted:
                raise ValueError(f"it holds {', '.join(arrays.files) or 'nothing'}, not {KEYS}")
            reference = KINDS[wanted[0]](arrays, space)
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}; {GET}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {GET}") from error
    if reference.record is None:
        check_dimensions(path, len(reference.statistics.mean), space, shape)
    return reference


def of_moments(arrays: np.lib.npyio.NpzFile, space: Space) -> Reference:
    """A file with mu and sigma, whoever's."""
    record = recorded(arrays, space) if "record" in arrays.files else None
    count = int(arrays["count"]) if "count" in arrays.files else 0
    statistics = moments(arrays["mu"], arrays["sigma"], count)
    spatial = None
    if {"mu_s", "sigma_s"} <= set(arrays.files):
        spatial = moments(arrays["mu_s"], arrays["sigma_s"], count)
    images = arrays["arr_0"] if "arr_0" in arrays.files else None
    return Reference(statistics, record, spatial, images=images)


def of_vectors(arrays: np.lib.npyio.NpzFile, space: Space) -> Reference:
    """A file of features, one row an image."""
    vectors = arrays["pool_3"]
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise ValueError(f"its pool_3 is {vectors.dtype} {vectors.shape}, not rows of features")
    return Reference(frechet.statistics(vectors), None, vectors=vectors)


def of_images(arrays: np.lib.npyio.NpzFile, space: Space) -> Reference:
    """A file of images: what is in it is put into the space now, so the space is known."""
    images = arrays["arr_0"]
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
        raise ValueError(
            f"its arr_0 is {images.dtype} {images.shape}, not uint8 images [n, h, w, c]"
        )
    parts = [space.features(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    vectors = np.concatenate([part.vectors for part in parts])
    spatial = None
    if parts[0].spatial is not None:
        spatial = frechet.statistics(np.concatenate([part.spatial for part in parts]))
    record = {"space": space.name, "settings": space.settings, "data": "images"}
    return Reference(frechet.statistics(vectors), record, spatial, vectors, images)


KINDS = {"mu": of_moments, "pool_3": of_vectors, "arr_0": of_images}


def recorded(arrays: np.lib.npyio.NpzFile, space: Space) -> dict[str, Any]:
    """What the file says of itself. Raises ValueError if that is not this space."""
    record = json.loads(str(arrays["record"]))
    theirs = {"space": record["space"], **record["settings"]}
    ours = {"space": space.name, **json.loads(json.dumps(space.settings))}
    other = [
        f"{key} {theirs.get(key, 'unset')} (here {ours.get(key, 'unset')})"
        for key in sorted(theirs | ours)
        if theirs.get(key) != ours.get(key)
    ]
    if other:
        raise ValueError(f"its statistics were made with another {', '.join(other)}")
    return record


def moments(mean: np.ndarray, covariance: np.ndarray, count: int) -> Statistics:
    """Raises ValueError if these cannot be a mean and a covariance."""
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"its mean is {mean.shape}, its covariance {covariance.shape}")
    for name, array in ("mean", mean), ("covariance", covariance):
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise ValueError(f"its {name} has numbers that are not finite")
    return Statistics(mean.astype(np.float64), covariance.astype(np.float64), count)


def check_dimensions(
    path: epath.Path, dimensions: int, space: Space, shape: tuple[int, int, int]
) -> None:
    """Raises ValueError if the space's vectors have others; a black image tells how many it has."""
    here = space.features(np.zeros((1, *shape), np.uint8)).vectors.shape[1]
    if dimensions != here:
        raise ValueError(
            f"{path}: its vectors have {dimensions} dimensions, those of {space.name} {here}; {GET}"
        )
