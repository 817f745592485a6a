"""House rules that import-linter cannot hold: sizes, the list of packages, programs that need no TensorFlow or torch."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddpm_jax"
FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_top_of_the_package_stays_short():
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 30


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(file):
    text = file.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            limit = 80 if node.name == "train" else 45
            assert node.end_lineno - node.lineno < limit, node.name


def test_pyproject_lists_every_folder_of_the_package():
    """A folder that is missing there is missing in the wheel."""
    text = (PACKAGE.parent / "pyproject.toml").read_text()
    listed = tomllib.loads(text)["tool"]["setuptools"]["packages"]
    folders = {".".join(file.relative_to(PACKAGE.parent).parent.parts) for file in FILES}
    assert sorted(listed) == sorted(folders | {"ddpm_jax.configs"})


WITHOUT = """
import importlib.abc, sys
class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
import ddpm_jax.main, ddpm_jax.metrics.inception.weights
from ddpm_jax.cli import execute, modes
for mode in modes.ALL:
    for name in filter(None, (mode.build, mode.check, mode.run)):
        modes.function(name)
assert not {"tensorflow", "torch"} & set(sys.modules)
"""


def test_no_mode_needs_tensorflow_or_torch_to_start():
    """In a process of its own, as this one may hold peers. tensorboardX takes torch where it is."""
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
