"""Reads the Inception network's weights from every file format in use, without downloading them.

  python -m ddpm_jax.metrics.inception.weights SOURCE TARGET.npz

converts any of them to an .npz, which is read without torch or TensorFlow.
"""

import io
import sys
import tarfile
import zipfile
import zlib
from typing import IO, Any, cast

import jax
import numpy as np
from etils import epath

from ddpm_jax.metrics.inception import graph_def, network
from ddpm_jax.metrics.inception.network import Weights
from ddpm_jax.runtime import files, foreign

GET = (
    "get TensorFlow's inception-2015-12-05.tgz, or pt_inception-2015-12-05-6726825d.pth from"
    " pytorch-fid's releases"
)
INSTEAD = (
    "convert it to .npz on a machine that has torch, or use TensorFlow's inception-2015-12-05.tgz,"
    " which does not need it"
)
HELP = """Convert the weights of the Inception network of FID and the Inception Score.

  python -m ddpm_jax.metrics.inception.weights SOURCE TARGET.npz

  SOURCE  inception-2015-12-05.tgz or the classify_image_graph_def.pb in it (TensorFlow's),
          pt_inception-2015-12-05-6726825d.pth (pytorch-fid's and torch-fidelity's; needs torch),
          or an .npz that this command wrote
  TARGET  an .npz, which is read without torch

The exit status is 0 on success, 2 for wrong usage or a source that cannot be read."""

GRAPH = "classify_image_graph_def.pb"
ZIP, GZIP, PICKLE = b"PK\x03\x04", b"\x1f\x8b", b"\x80"
# torchvision's names, which the .pth uses, for the same layers, blocks and towers.
STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
TOWERS = {
    "5": ("branch1x1", "branch5x5", "branch3x3dbl", "branch_pool"),
    "6a": ("branch3x3", "branch3x3dbl"),
    "6": ("branch1x1", "branch7x7", "branch7x7dbl", "branch_pool"),
    "7a": ("", "branch3x3", "branch7x7x3"),
    "7": ("branch1x1", "branch3x3", "branch3x3dbl", "branch_pool"),
}
DAMAGE = EOFError, OSError, KeyError, zipfile.BadZipFile, tarfile.TarError, zlib.error
SINGLE = ("branch1x1", "branch_pool")  # towers of one convolution, which has no number
PARTS = {
    "conv2d_params": "conv.weight",
    "batchnorm/gamma": "bn.weight",
    "batchnorm/beta": "bn.bias",
    "batchnorm/moving_mean": "bn.running_mean",
    "batchnorm/moving_variance": "bn.running_var",
    "weights": "fc.weight",
    "biases": "fc.bias",
}


def number(name: str) -> int:
    """The number in a name of the graph: "conv_2" is 2, "conv" is 0."""
    return int(name.partition("_")[2] or 0)


def torch_module(name: str) -> str:
    """Translates "mixed_4/tower_1/conv_2" to "Mixed_6b.branch7x7dbl_3"."""
    first, *inner = name.split("/")
    if not inner:
        return f"Conv2d_{STEM[number(first)]}"
    block = BLOCKS[number(first)]
    towers = TOWERS.get(block) or TOWERS[block[0]]
    place = number(inner[0]) + 1 if inner[0].startswith("tower") else 0
    branch, last = towers[place], number(inner[-1])
    if "mixed" in inner:  # the fork after the last of the tower's own convolutions
        return f"Mixed_{block}.{branch}_{place + 1}{'ab'[last]}"
    single = branch in SINGLE or (block == "6a" and not place)
    return f"Mixed_{block}.{branch}" + ("" if single else f"_{last + 1}")


def torch_name(name: str) -> str:
    """Translates "conv/batchnorm/gamma" to "Conv2d_1a_3x3.bn.weight"."""
    part = next(part for part in PARTS if name.endswith(f"/{part}"))
    module = name.removesuffix(f"/{part}")
    return PARTS[part] if module == "softmax" else f"{torch_module(module)}.{PARTS[part]}"


def from_torch(array: np.ndarray) -> np.ndarray:
    """Transposes OIHW to HWIO, and [out, in] to [in, out]."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def read_pth(path: epath.Path) -> dict[str, np.ndarray]:
    """Reads a dictionary of tensors that torch saved; returns arrays by the graph's names."""
    tensors = foreign.read_torch(path, INSTEAD, GET)
    names = {torch_name(name): name for name in network.shapes()}
    return {names[name]: from_torch(array) for name, array in tensors.items() if name in names}


def read_npz(path: epath.Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except ValueError as error:
        raise ValueError(f"{path} does not hold plain arrays: {error}; {GET}") from error


def read_graph(path: epath.Path, graph: bytes) -> dict[str, np.ndarray]:
    try:
        return graph_def.constants(graph)
    except ValueError as error:
        raise ValueError(f"{path} is not a complete GraphDef: {error}; {GET}") from error


def read_tgz(path: epath.Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:gz") as tar:
        return read_graph(path, cast(IO[bytes], tar.extractfile(GRAPH)).read())


def read_zip(path: epath.Path) -> dict[str, np.ndarray]:
    """Reads an .npz or a newer .pth, both of which are zip files."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.namelist()
    if any(name.endswith("constants.pkl") for name in members):
        raise ValueError(f"{path} is a TorchScript program, perhaps NVIDIA's; {GET}")
    return read_npz(path) if all(name.endswith(".npy") for name in members) else read_pth(path)


def read(path: epath.PathLike) -> Weights:
    """Reads the network's arrays, by the graph's names, from a file of any of these formats.

    Raises ValueError, with a line on what the file is and what to get instead, for any other file.
    """
    path = epath.Path(path)
    head = foreign.check(path, GET)
    try:
        if head.startswith(ZIP):
            arrays = read_zip(path)
        elif head.startswith(GZIP):
            arrays = read_tgz(path)
        elif head.startswith(PICKLE):
            arrays = read_pth(path)
        else:
            arrays = read_graph(path, path.read_bytes())
    except DAMAGE as error:
        raise ValueError(f"{path} is truncated or damaged: {error}; {GET}") from error
    return select(path, arrays)


def select(path: epath.Path, arrays: dict[str, np.ndarray]) -> Weights:
    """The network's arrays. Raises ValueError if one is missing, of another shape, or not finite."""
    shapes = network.shapes()
    missing = [name for name in shapes if name not in arrays]
    if missing:
        raise ValueError(
            f"{path} is not the Inception network of 2015: {len(missing)} of its {len(shapes)}"
            f" arrays are missing, the first is {missing[0]}; {GET}"
        )
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(
                f"{path} is not the Inception network of 2015: its {name} is {array.dtype}"
                f" {array.shape}, not float32 {shape}; {GET}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{path} is damaged: its {name} is not finite; {GET}")
    return {name: np.ascontiguousarray(arrays[name], np.float32) for name in shapes}


def convert(source: epath.PathLike, target: epath.PathLike) -> None:
    """Converts the weights in 'source' to our .npz. Raises ValueError as 'read' does."""
    target = epath.Path(target)
    if target.suffix != ".npz":
        raise ValueError(f"TARGET is {target}; its name must end in .npz")
    buffer = io.BytesIO()
    np.savez(buffer, **cast(dict[str, Any], read(source)))
    files.write(target, buffer.getvalue())


def main(arguments: list[str]) -> int:
    if {"--help", "-h"} & set(arguments):
        print(HELP)
        return 0
    jax.config.update("jax_platforms", "cpu")  # a TPU serves one process, and this one needs none
    try:
        if len(arguments) != 2:
            raise ValueError(
                "usage: python -m ddpm_jax.metrics.inception.weights SOURCE TARGET.npz"
            )
        convert(*arguments)
    except (ValueError, OSError) as error:
        print(f"ddpm_jax: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{arguments[1]}: the weights of {arguments[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
