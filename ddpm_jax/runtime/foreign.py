"""Readers of files from other programs, which execute nothing in them and report errors in one line.

In each reader 'remedy' is the end of an error message: where to get the right file.
"""

import os
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import safetensors
from etils import epath

POINTER = b"version https://git-lfs"
PAGES = b"<!doctype", b"<html", b"<?xml"
FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
TENSORFLOW = r"(.*)\.(index|meta|data-\d{5}-of-\d{5})"  # group 1 is a checkpoint's prefix
Tensors = Mapping[str, np.ndarray]


def check(path: epath.Path, remedy: str) -> bytes:
    """Returns the first bytes of a file.

    Raises ValueError if it is missing, a folder, empty, a Git LFS pointer or a web page.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; {remedy}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file; {remedy}")
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise ValueError(f"{path} is empty; {remedy}")
    if head.startswith(POINTER):
        raise ValueError(
            f"{path} is a Git LFS pointer, not the file itself; run 'git lfs pull', or {remedy}"
        )
    if head.lstrip().lower().startswith(PAGES):
        raise ValueError(f"{path} is a web page, not the file that it should be; {remedy}")
    return head


def read_torch(path: epath.Path, alternative: str, remedy: str) -> Tensors:
    """Reads a dictionary of tensors that torch saved, as float32.

    Raises ValueError for other content, or if torch is not installed; 'alternative' says what else to do.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            f"{path} is read with torch, which is not installed: 'pip install torch', {alternative}"
        ) from None
    try:
        with path.open("rb") as file:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        return {name: value.float().numpy() for name, value in tensors.items()}
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(
            f"{path} is truncated, or not a dictionary of tensors; {remedy}"
        ) from error


def read_safetensors(path: epath.Path, remedy: str) -> Tensors:
    """Reads all tensors of a file, as float32. Raises ValueError for a damaged file or other content."""
    try:
        entries = safetensors.deserialize(path.read_bytes())
        return {
            name: np.frombuffer(entry["data"], FLOATS[entry["dtype"]])
            .astype(np.float32)
            .reshape(entry["shape"])
            for name, entry in entries
        }
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is truncated, or not safetensors: {error}; {remedy}") from error
    except KeyError as error:
        raise ValueError(
            f"{path} has a tensor of dtype {error}, which is not a float; {remedy}"
        ) from error


def tensorflow_prefix(path: epath.Path) -> epath.Path | None:
    """Returns the prefix of the TensorFlow checkpoint at 'path', or None if there is no checkpoint.

    'path' may be the prefix, one of the checkpoint's files, or a folder; in a folder with several
    checkpoints it is the one with the highest step.
    """
    match = re.fullmatch(TENSORFLOW, path.name)
    if match:
        return path.with_name(match[1])
    if path.with_name(f"{path.name}.index").exists():
        return path
    # Not glob(): it takes the whole path for a pattern.
    indexes = [each for each in path.iterdir() if each.suffix == ".index"] if path.is_dir() else ()
    prefixes = [index.with_name(index.name.removesuffix(".index")) for index in indexes]
    return max(prefixes, key=lambda prefix: parse_step(prefix.name) or 0, default=None)


def parse_step(name: str) -> int | None:
    """Returns 790000 for "model.ckpt-790000" and "model-790000.ckpt", and None for other names."""
    match = re.fullmatch(r"model(?:\.ckpt)?-(\d{1,9})(?:\.\w+)?", name)
    return int(match[1]) if match else None


def read_tensorflow(prefix: epath.Path, remedy: str) -> Tensors:
    """Reads all variables of a checkpoint.

    Raises ValueError if TensorFlow is not installed, or if a file is missing or damaged.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else its startup messages hide ours
    try:
        import tensorflow  # pyright: ignore[reportMissingModuleSource]
    except ImportError:
        raise ValueError(
            f"{prefix} is read with TensorFlow, which is not installed: pip install -e '.[prepare]'"
        ) from None
    for path in (prefix.with_name(f"{prefix.name}.index"), *data_files(prefix)):
        check(path, remedy)
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # TensorFlow raises many kinds for a damaged file
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"{prefix} is truncated or damaged: {words}; {remedy}") from error


def data_files(prefix: epath.Path) -> list[epath.Path]:
    """Returns the data files that exist, or the path of the one that should."""
    names = f"{prefix.name}.data-"
    existing = sorted(each for each in prefix.parent.iterdir() if each.name.startswith(names))
    return existing or [prefix.with_name(f"{prefix.name}.data-00000-of-00001")]
