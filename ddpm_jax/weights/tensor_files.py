"""The files of foreign weights: one file of tensors, or shards that an index names; a folder's choice of them."""

import json
import re
from typing import Any

from etils import epath

from ddpm_jax.runtime import foreign
from ddpm_jax.runtime.foreign import Tensors

GET_AGAIN = "download it again"
INSTEAD_OF_TORCH = "or use the .safetensors file if there is one"
NAME = "diffusion_pytorch_model"
WEIGHTS = (f"{NAME}.safetensors", f"{NAME}.bin")
SHARD = r"-\d{5}-of-\d{5}\b"
# Patterns of the files to download, the preferred ones first: one group holds all that find_weights chooses.
DOWNLOADS = (
    *(
        (f"{NAME}.{kind}", f"{NAME}.{kind}.index.json", f"{NAME}-*.{kind}")
        for kind in ("safetensors", "bin")
    ),
    *((f"{NAME}[.-]*.{kind}", f"{NAME}.{kind}.index.*.json") for kind in ("safetensors", "bin")),
)


def read_tensors(path: epath.Path) -> Tensors:
    """Reads a safetensors or a torch file, as its first bytes or its suffix say, or an index's shards."""
    head = foreign.check(path, GET_AGAIN)
    if path.suffix == ".json":
        return read_shards(path)
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return foreign.read_safetensors(path, GET_AGAIN)
    return foreign.read_torch(path, INSTEAD_OF_TORCH, GET_AGAIN)


def read_shards(index: epath.Path) -> Tensors:
    """Reads the tensors that an index assigns to files beside it.

    Raises ValueError, with its name, for a missing shard or tensor.
    """
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{index} has no weight_map, so it is not an index of shards")
    for name in map(str, places.values()):
        if name != epath.Path(name).name or name.endswith(".json"):
            raise ValueError(f"{index} names the shard {name!r}, which is not a file beside it")
    names = sorted(set(map(str, places.values())))
    missing = [name for name in names if not (index.parent / name).exists()]
    if missing:
        raise ValueError(
            f"{index.parent / missing[0]} does not exist; {len(missing)} of {len(names)} shards are"
            f" missing; {GET_AGAIN}"
        )
    tensors: dict[str, Any] = {}
    for name in names:
        found = read_tensors(index.parent / name)
        absent = [
            tensor for tensor, place in places.items() if place == name and tensor not in found
        ]
        if absent:
            raise ValueError(f"{index.parent / name} lacks the tensor {absent[0]}; {GET_AGAIN}")
        tensors |= found
    return tensors


def find_weights(folder: epath.Path) -> epath.Path:
    """Returns a folder's file of weights or its index; a variant's, such as fp16, where there is no other.

    Raises ValueError if it holds no weights, or several variants and nothing else.
    """
    names = {path.name for path in folder.iterdir()}
    for name in WEIGHTS:
        for candidate in (name, f"{name}.index.json"):
            if candidate in names:
                return folder / candidate
    for suffix in ("safetensors", "bin"):
        variant = rf"{NAME}\.([\w-]+\.{suffix}|{suffix}\.index\.[\w-]+\.json)"
        found = sorted(
            name for name in names if re.fullmatch(variant, name) and not re.search(SHARD, name)
        )
        if len(found) > 1:
            raise ValueError(
                f"{folder} has the variants {', '.join(found)}; choose one with"
                f" --source={folder / found[0]}"
            )
        if found:
            return folder / found[0]
    shards = sorted(name for name in names if re.search(SHARD, name))
    if shards:
        raise ValueError(f"{folder} has {shards[0]}, but no {WEIGHTS[0]}.index.json; {GET_AGAIN}")
    raise ValueError(f"{folder} has neither {' nor '.join(WEIGHTS)}")


def holds_weights(folder: epath.Path) -> bool:
    """Returns whether find_weights finds a folder's weights."""
    try:
        return bool(find_weights(folder))
    except ValueError:
        return False


def read_json(path: epath.Path) -> dict[str, Any]:
    """Reads a JSON object. Raises ValueError for anything else."""
    foreign.check(path, GET_AGAIN)
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object")
    return value
