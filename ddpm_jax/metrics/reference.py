"""Files of reference statistics: our own, which record space and data, and other programs'.

Our file is an .npz with TTUR's keys mu and sigma, which other programs can read, and a JSON 'record'.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from ddpm_jax.metrics import features, frechet
from ddpm_jax.metrics.features import Embedding, Space, Statistics
from ddpm_jax.runtime import foreign

GET = "recompute the statistics from the data, or download the file again"
KEYS = "mu and sigma (ours, TTUR's, EDM's), pool_3 (score_sde's) or arr_0 (images, OpenAI's)"
CHUNK = 1000  # images embedded at a time


def pack(embedding: Embedding, space: Space, data: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of our own file; 'data', in JSON types, identifies the images."""
    statistics, spatial = embedding.statistics, embedding.spatial
    record = {"space": space.name, "settings": space.settings, "data": data}
    arrays = {"mu": statistics.mean, "sigma": statistics.covariance}
    arrays |= {"count": np.asarray(statistics.count), "record": np.asarray(json.dumps(record))}
    if spatial is not None:
        arrays |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
    if embedding.vectors is not None:
        arrays["vectors"] = embedding.vectors
    if embedding.inception_score is not None:
        arrays["inception_score"] = np.asarray(embedding.inception_score)
    return arrays


def unpack(arrays: dict[str, np.ndarray]) -> Embedding:
    """Returns the Embedding that 'pack' stored, without checks."""
    count, spatial, score = int(arrays["count"]), None, None
    if "mu_s" in arrays:
        spatial = Statistics(arrays["mu_s"], arrays["sigma_s"], count)
    if "inception_score" in arrays:
        score = tuple(arrays["inception_score"].tolist())
    return Embedding(
        statistics=Statistics(arrays["mu"], arrays["sigma"], count),
        spatial=spatial,
        vectors=arrays.get("vectors"),
        inception_score=score,
        record=json.loads(str(arrays["record"])),
    )


def read(
    path: epath.PathLike, space: Space, shape: tuple[int, int, int] = (32, 32, 3)
) -> Embedding:
    """Reads anyone's reference file for a feature space; images without statistics are embedded.

    A file without a record must have the dimensions of features of images of 'shape'. Raises
    ValueError, one line, for statistics of another space or with other settings, other dimensions,
    NaN, wrong shapes, or a file that is damaged or of another kind.
    """
    path = epath.Path(path)
    reference = open_file(path, READERS, space)
    if reference.record is None:
        check_dimensions(path, len(reference.statistics.mean), space, shape)
    return reference


def check(path: epath.PathLike) -> None:
    """Raises ValueError for a file that no space can read; not all that 'read' finds is found without one."""
    open_file(epath.Path(path), CHECKS)


def open_file(path: epath.Path, functions: Mapping[str, Callable[..., Any]], *args: Any) -> Any:
    """Calls the function of the first key of 'functions' that the file has, with its arrays and 'args'."""
    head = foreign.check(path, GET)
    if not head.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path} is not an .npz file; it begins with {head[:8]!r}; {GET}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            keys = [key for key in functions if key in arrays.files]
            if not keys:
                raise ValueError(f"it holds {', '.join(arrays.files) or 'nothing'}, not {KEYS}")
            return functions[keys[0]](arrays, *args)
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}; {GET}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {GET}") from error


def read_moments(arrays: np.lib.npyio.NpzFile, space: Space) -> Embedding:
    """Reads a file with mu and sigma, ours or another program's."""
    record = read_record(arrays, space) if "record" in arrays.files else None
    statistics, spatial = stored_moments(arrays), None
    if {"mu_s", "sigma_s"} <= set(arrays.files):
        spatial = moments(arrays["mu_s"], arrays["sigma_s"], statistics.count)
    return Embedding(statistics=statistics, spatial=spatial, record=record)


def read_vectors(arrays: np.lib.npyio.NpzFile, space: Space) -> Embedding:
    """Reads a file of features, one row per image."""
    vectors = stored_vectors(arrays)
    return Embedding(statistics=frechet.statistics(vectors), vectors=vectors)


def embed_images(arrays: np.lib.npyio.NpzFile, space: Space) -> Embedding:
    """Embeds a file of images now, so its space is known."""
    images = stored_images(arrays)
    parts = [space.features(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    joined = features.concatenate(parts)
    return Embedding(
        statistics=frechet.statistics(joined.vectors),
        spatial=None if joined.spatial is None else frechet.statistics(joined.spatial),
        vectors=joined.vectors,
        record={"space": space.name, "settings": space.settings, "data": "images"},
    )


def stored_moments(arrays: np.lib.npyio.NpzFile) -> Statistics:
    count = int(arrays["count"]) if "count" in arrays.files else 0
    return moments(arrays["mu"], arrays["sigma"], count)


def stored_vectors(arrays: np.lib.npyio.NpzFile) -> np.ndarray:
    vectors = arrays["pool_3"]
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or len(vectors) < 2:
        raise ValueError(
            f"its pool_3 is {vectors.dtype} {vectors.shape}, not two or more rows of features"
        )
    return vectors


def stored_images(arrays: np.lib.npyio.NpzFile) -> np.ndarray:
    images = arrays["arr_0"]
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) < 2:
        raise ValueError(
            f"its arr_0 is {images.dtype} {images.shape}, not two or more uint8 images [n, h, w, c]"
        )
    return images


READERS = {"mu": read_moments, "pool_3": read_vectors, "arr_0": embed_images}
CHECKS = {"mu": stored_moments, "pool_3": stored_vectors, "arr_0": stored_images}


def read_record(arrays: np.lib.npyio.NpzFile, space: Space) -> dict[str, Any]:
    """Reads the file's record. Raises ValueError if it was made in another space."""
    record = json.loads(str(arrays["record"]))
    theirs = {"space": record["space"], **record["settings"]}
    ours = {"space": space.name, **json.loads(json.dumps(space.settings))}
    differing = [
        f"{key} {theirs.get(key, 'unset')} (here {ours.get(key, 'unset')})"
        for key in sorted(theirs | ours)
        if theirs.get(key) != ours.get(key)
    ]
    if differing:
        raise ValueError(f"its statistics were made with another {', '.join(differing)}")
    return record


def moments(mean: np.ndarray, covariance: np.ndarray, count: int) -> Statistics:
    """Returns statistics. Raises ValueError if the arrays cannot be a mean and a covariance."""
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"its mean is {mean.shape}, its covariance {covariance.shape}")
    for name, array in ("mean", mean), ("covariance", covariance):
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise ValueError(f"its {name} has numbers that are not finite")
    return Statistics(mean.astype(np.float64), covariance.astype(np.float64), count)


def check_dimensions(
    path: epath.Path, dimensions: int, space: Space, shape: tuple[int, int, int]
) -> None:
    """Raises ValueError if the vector of a black image has other dimensions."""
    expected = space.features(np.zeros((1, *shape), np.uint8)).vectors.shape[1]
    if dimensions != expected:
        raise ValueError(
            f"{path}: its vectors have {dimensions} dimensions, those of {space.name} {expected}; {GET}"
        )
