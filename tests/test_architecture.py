"""The house plan, enforced: imports point down, and heavy libraries stay in their rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddpm_jax"
FLOORS = [
    ["diffusion", "layers", "unet", "classifier"],
    [
        "parameterization",
        "guidance",
        "objective",
        "likelihood",
        "timesteps",
        "sampling",
        "solvers",
        "sde",
        "optimizer",
        "roll_call",
        "processes",
        "parallel",
    ]
    + [
        "workdir",
        "report",
        "stopping",
        "lock",
        "datasets",
        "data",
        "digest",
        "checkpoint",
        "parts",
        "foreign",
        "convert",
        "scores",
        "chips",
        "timing",
        "topology",
        "compiled",
        "preflight_report",
    ],
    ["settings", "label_settings", "solver_settings", "data_settings", "model_settings", "build"]
    + ["state", "gradient", "stored_config", "draws", "each_image"]
    + ["diffusers_json", "weights_source"],
    ["codec"],
    [
        "train",
        "generate",
        "quality",
        "accuracy",
        "evaluate",
        "figures",
        "follow",
        "preflight",
        "benchmark",
    ]
    + ["weights"],
    ["imported_config", "command_line", "main", "datasets.prepare"],
]
# A floor's rooms are in order too: each may use those before it.
RANK = {room: rank for rank, room in enumerate(room for floor in FLOORS for room in floor)}
ONLY_IN = {
    "orbax": {"checkpoint"},
    "tensorflow": {"foreign"},
    "torch": {"foreign"},
    "safetensors": {"foreign", "weights"},
    "matplotlib": {"figures"},
    "tensorflow_datasets": {"data", "datasets"},
    "absl": {"train", "command_line", "main", "datasets.prepare"},
    "tensorboardX": {"report"},
    "array_record": {"datasets"},
    "lmdb": {"datasets"},
    "diffrax": {"sde"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts) if parts == ("datasets", "prepare") else parts[0]


def imports(file):
    """(top package, room of ours or None) of every import in a file, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield parts[0], parts[1] if parts[0] == "ddpm_jax" else None


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_down(file):
    here = room(file)
    if here == "__init__":
        assert not list(imports(file))
        return
    for package, other in imports(file):
        if package == "ddpm_jax" and other != here:
            assert RANK[other] < RANK[here], f"{here} imports {other}"
        assert here in ONLY_IN.get(package, {here}), f"{here} imports {package}"


def test_every_room_is_on_the_plan():
    assert {room(file) for file in FILES} - {"__init__"} == set(RANK)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(file):
    text = file.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            limit = 80 if node.name == "train" else 45
            assert node.end_lineno - node.lineno < limit, node.name


WITHOUT = """
import importlib.abc, sys
class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
import ddpm_jax.main, ddpm_jax.scores.inception_weights
assert not {"tensorflow", "torch"} & set(sys.modules)
"""


def test_a_whole_program_needs_no_tensorflow_and_no_torch():
    """In a process of its own, as this one may hold peers. tensorboardX takes torch where it is."""
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
