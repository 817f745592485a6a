"""Files that others made: read without running anything in them, or refused in one line."""

import os
import re

import jax.numpy as jnp
import numpy as np
import safetensors
from etils import epath

POINTER = b"version https://git-lfs"
PAGES = b"<!doctype", b"<html", b"<?xml"
FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
TENSORFLOW = r"(.*)\.(index|meta|data-\d{5}-of-\d{5})"  # the files of one checkpoint, by their stem
Tensors = dict[str, np.ndarray]


def check(path: epath.Path, get: str) -> bytes:
    """The first bytes of a file. Raises ValueError, with 'get', where to get it, if it is no such file."""
    if not path.exists():
        raise ValueError(f"{path} does not exist; {get}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file; {get}")
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise ValueError(f"{path} is empty; {get}")
    if head.startswith(POINTER):
        raise ValueError(
            f"{path} is a Git LFS pointer, not the file itself; 'git lfs pull', or {get}"
        )
    if head.lstrip().lower().startswith(PAGES):
        raise ValueError(f"{path} is a web page, not the file that was to be fetched; {get}")
    return head


def read_torch(path: epath.Path, instead: str, get: str) -> Tensors:
    """A dictionary of tensors that torch saved.

    Raises ValueError where torch is missing, with what to do 'instead', and for any other content.
    """
    try:
        import torch
    except ImportError:
        raise ValueError(
            f"{path} is read with torch, which is not installed: 'pip install torch', {instead}"
        ) from None
    try:
        with path.open("rb") as file:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        return {name: value.float().numpy() for name, value in tensors.items()}
    except Exception as error:  # of a damaged file torch raises anything
        raise ValueError(f"{path} is truncated, or no dictionary of tensors; {get}") from error


def read_safetensors(path: epath.Path, get: str) -> Tensors:
    """Every tensor of a file, as float32. Raises ValueError for a file that is cut off or no such file."""
    try:
        found = safetensors.deserialize(path.read_bytes())
        return {
            name: np.frombuffer(each["data"], FLOATS[each["dtype"]])
            .astype(np.float32)
            .reshape(each["shape"])
            for name, each in found
        }
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is truncated, or no safetensors: {error}; {get}") from error
    except KeyError as error:
        raise ValueError(f"{path} holds a tensor of {error}, which is no float; {get}") from error


def tensorflow_prefix(path: epath.Path) -> epath.Path | None:
    """The stem of a TensorFlow checkpoint that 'path' is, is a file of, or has in it; else None.

    Of several in a folder the one with the highest step.
    """
    match = re.fullmatch(TENSORFLOW, path.name)
    if match:
        return path.with_name(match[1])
    if path.with_name(f"{path.name}.index").exists():
        return path
    inside = path.glob("*.index") if path.is_dir() else ()
    stems = [found.with_name(found.name.removesuffix(".index")) for found in inside]
    return max(stems, key=lambda stem: parse_step(stem.name) or 0, default=None)


def parse_step(name: str) -> int | None:
    """ "model.ckpt-790000" and "model-790000.ckpt" are of step 790000; other names do not say."""
    match = re.fullmatch(r"model(?:\.ckpt)?-(\d{1,9})(?:\.\w+)?", name)
    return int(match[1]) if match else None


def read_tensorflow(prefix: epath.Path, get: str) -> Tensors:
    """Every variable of a checkpoint.

    Raises ValueError where TensorFlow is missing, and for files that are missing or cut off.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or its greeting is all one sees
    try:
        import tensorflow
    except ImportError:
        raise ValueError(
            f"{prefix} is read with TensorFlow, which is not installed: pip install -e '.[prepare]'"
        ) from None
    for path in (prefix.with_name(f"{prefix.name}.index"), *data_files(prefix)):
        check(path, get)
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # of a damaged file TensorFlow raises many kinds
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"{prefix} is truncated or damaged: {words}; {get}") from error


def data_files(prefix: epath.Path) -> list[epath.Path]:
    """Those that are there, or the one that ought to be."""
    there = sorted(prefix.parent.glob(f"{prefix.name}.data-*"))
    return there or [prefix.with_name(f"{prefix.name}.data-00000-of-00001")]
