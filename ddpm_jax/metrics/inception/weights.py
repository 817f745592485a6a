"""The Inception network's weights in the forms in which they circulate. Nothing here fetches them.

  python -m ddpm_jax.metrics.inception.weights SOURCE TARGET.npz

reads any of them and writes ours, which needs neither torch nor TensorFlow to be read again.
"""

import io
import sys
import tarfile
import zipfile
import zlib

import jax
import numpy as np
from etils import epath

from ddpm_jax.metrics.inception import graph_def, network
from ddpm_jax.metrics.inception.network import Weights
from ddpm_jax.runtime import files, foreign

GET = (
    "get inception-2015-12-05.tgz, TensorFlow's, or pt_inception-2015-12-05-6726825d.pth from"
    " pytorch-fid's releases"
)
INSTEAD = (
    "convert it to .npz where there is one, or take TensorFlow's inception-2015-12-05.tgz, which"
    " needs none"
)
HELP = """Convert the weights of the Inception network of FID and the Inception Score.

  python -m ddpm_jax.metrics.inception.weights SOURCE TARGET.npz

  SOURCE  inception-2015-12-05.tgz or the classify_image_graph_def.pb in it (TensorFlow's),
          pt_inception-2015-12-05-6726825d.pth (pytorch-fid's and torch-fidelity's; needs torch),
          or a .npz that this command wrote
  TARGET  a .npz, to be read without torch

It exits 0 when done, 2 on wrong usage or a source that cannot be read."""

GRAPH = "classify_image_graph_def.pb"
ZIP, GZIP, PICKLE = b"PK\x03\x04", b"\x1f\x8b", b"\x80"
# The same blocks and towers in torchvision's words, which the .pth uses.
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
ALONE = ("branch1x1", "branch_pool")  # towers of one convolution, which has no number
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
    """Of "conv_2", "mixed_2" or "tower_1"; the first of each has none."""
    return int(name.partition("_")[2] or 0)


def torch_module(name: str) -> str:
    """ "mixed_4/tower_1/conv_2" to "Mixed_6b.branch7x7dbl_3"."""
    first, *inner = name.split("/")
    if not inner:
        return f"Conv2d_{STEM[number(first)]}"
    block = BLOCKS[number(first)]
    towers = TOWERS.get(block) or TOWERS[block[0]]
    place = number(inner[0]) + 1 if inner[0].startswith("tower") else 0
    branch, last = towers[place], number(inner[-1])
    if "mixed" in inner:  # the fork after the last of the tower's own convolutions
        return f"Mixed_{block}.{branch}_{place + 1}{'ab'[last]}"
    alone = branch in ALONE or (block == "6a" and not place)
    return f"Mixed_{block}.{branch}" + ("" if alone else f"_{last + 1}")


def torch_name(name: str) -> str:
    """ "conv/batchnorm/gamma" to "Conv2d_1a_3x3.bn.weight"."""
    part = next(part for part in PARTS if name.endswith(f"/{part}"))
    module = name.removesuffix(f"/{part}")
    return PARTS[part] if module == "softmax" else f"{torch_module(module)}.{PARTS[part]}"


def from_torch(array: np.ndarray) -> np.ndarray:
    """OIHW to HWIO, [out, in] to [in, out]."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def read_pth(path: epath.Path) -> dict[str, np.ndarray]:
    """A dictionary of tensors that torch saved, by the graph's names."""
    tensors = foreign.read_torch(path, INSTEAD, GET)
    names = {torch_name(name): name for name in network.shapes()}
    return {names[name]: from_torch(array) for name, array in tensors.items() if name in names}


def read_npz(path: epath.Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except ValueError as error:
        raise ValueError(f"{path} holds no plain arrays: {error}; {GET}") from error


def read_graph(path: epath.Path, graph: bytes) -> dict[str, np.ndarray]:
    try:
        return graph_def.constants(graph)
    except ValueError as error:
        raise ValueError(f"{path} is no whole GraphDef: {error}; {GET}") from error


def read_tgz(path: epath.Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:gz") as tar:
        return read_graph(path, tar.extractfile(GRAPH).read())


def read_zip(path: epath.Path) -> dict[str, np.ndarray]:
    """A .npz or a newer .pth, both of which are zips."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        inner = archive.namelist()
    if any(name.endswith("constants.pkl") for name in inner):
        raise ValueError(f"{path} is a TorchScript program, NVIDIA's perhaps; {GET}")
    return read_npz(path) if all(name.endswith(".npy") for name in inner) else read_pth(path)


def read(path: epath.PathLike) -> Weights:
    """The network's arrays by the graph's names, from a file of any of the forms.

    Raises ValueError, one line that says what the file is and what to get, for anything else.
    """
    path = epath.Path(path)
    head = foreign.check(path, GET)
    try:
        if head.startswith(ZIP):
            found = read_zip(path)
        elif head.startswith(GZIP):
            found = read_tgz(path)
        elif head.startswith(PICKLE):
            found = read_pth(path)
        else:
            found = read_graph(path, path.read_bytes())
    except DAMAGE as error:
        raise ValueError(f"{path} is truncated or damaged: {error}; {GET}") from error
    return checked(path, found)


def checked(path: epath.Path, found: dict[str, np.ndarray]) -> Weights:
    """The network's arrays among those found. Raises ValueError if one is missing, or not as it should be."""
    shapes = network.shapes()
    missing = [name for name in shapes if name not in found]
    if missing:
        raise ValueError(
            f"{path} is no Inception network of 2015: {len(missing)} of its {len(shapes)} arrays are"
            f" missing, the first is {missing[0]}; {GET}"
        )
    for name, shape in shapes.items():
        array = found[name]
        if array.shape != shape or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(
                f"{path} is no Inception network of 2015: its {name} is {array.dtype}"
                f" {array.shape}, not float32 {shape}; {GET}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{path} is damaged: its {name} is not finite; {GET}")
    return {name: np.ascontiguousarray(found[name], np.float32) for name in shapes}


def convert(source: epath.PathLike, target: epath.PathLike) -> None:
    """Writes the weights in 'source' as a .npz of ours. Raises ValueError as 'read' does."""
    target = epath.Path(target)
    if target.suffix != ".npz":
        raise ValueError(f"{target} is to be an .npz; name it so")
    buffer = io.BytesIO()
    np.savez(buffer, **read(source))
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
