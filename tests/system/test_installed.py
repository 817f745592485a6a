"""The package as others have it: from a source distribution, a wheel, an editable install, in any folder."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import CONFIGS, ROOT

pytestmark = pytest.mark.slow
PARTS = ("pyproject.toml", "README.md", "LICENSE", "ddpm_jax", "configs")
NAMES = {path.name for path in CONFIGS.glob("*.py")}


def run(*args, cwd, path=""):
    """Runs a program without this tree on its path; returns the exit status and both outputs."""
    hidden = ("PYTHONPATH", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run(
        list(map(str, args)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


def succeed(*args, **options):
    status, out, err = run(*args, **options)
    assert status == 0, out + err
    return out


@pytest.fixture(scope="module")
def setuptools(tmp_path_factory):
    """A folder with the setuptools that pyproject.toml asks for."""
    folder = tmp_path_factory.mktemp("setuptools")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--target", folder, "setuptools>=77")
    succeed(*pip, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what is packaged, as building writes into the tree."""
    folder = tmp_path_factory.mktemp("tree")
    succeed("cp", "-r", *PARTS, folder, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def distributions(tree, setuptools, tmp_path_factory):
    """The source distribution, and the wheel that is built of it."""
    folder = tmp_path_factory.mktemp("distributions")
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    succeed(sys.executable, "-c", build, cwd=tree, path=setuptools)
    (source,) = folder.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    succeed(*pip, source, cwd=folder, path=setuptools)
    (wheel,) = folder.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module", params=["wheel", "editable"])
def environment(request, setuptools, tmp_path_factory):
    """A new environment's folder of programs; it has the package, and this one's libraries."""
    folder = tmp_path_factory.mktemp(request.param)
    succeed(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    libraries = Path(succeed(python, "-c", query, cwd=folder).strip())
    (libraries / "others.pth").write_text(sysconfig.get_path("purelib"))
    if request.param == "wheel":
        what = [request.getfixturevalue("distributions")[1]]
    else:
        what = ["-e", request.getfixturevalue("tree")]
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps")
    # The libraries' own environment may have this version of the package.
    options = ("--no-build-isolation", "--ignore-installed")
    succeed(*pip, *options, *what, cwd=folder, path=setuptools)
    return python.parent


def test_source_distribution_and_wheel_hold_every_config(distributions):
    source, wheel = distributions
    with tarfile.open(source) as archive:
        parts = [Path(name).parts for name in archive.getnames()]
    assert {part[2] for part in parts if part[1:2] == ("configs",) and len(part) > 2} == NAMES
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    assert {path.name for path in names if path.parent == Path("ddpm_jax/configs")} == NAMES
    assert {path.parts[0] for path in names if path.suffix == ".py"} == {"ddpm_jax"}


def test_the_script_and_the_module_are_one_program_in_any_folder(environment, tmp_path):
    script, module = (environment / "ddpm",), (environment / "python", "-m", "ddpm_jax.main")
    for wanted in ("--help", "--help=config"):
        assert succeed(*script, wanted, cwd=tmp_path) == succeed(*module, wanted, cwd=tmp_path)
    (tmp_path / "neighbour.py").write_text("steps = -3\n")
    (tmp_path / "mine.py").write_text(
        "from neighbour import steps\n"
        "from ddpm_jax.config import config_file\n"
        "def get_config():\n"
        "    config = config_file.load('digits')\n"
        "    config.train.steps = steps\n"
        "    return config\n"
    )
    status, _, err = run(*script, "train", "mine.py", cwd=tmp_path)
    assert (status, err) == run(*module, "--config=mine.py", cwd=tmp_path)[::2]
    assert status == 2 and "train.steps is -3" in err


@pytest.mark.parametrize("config", ["digits", "configs/digits.py", "ablation:mu-mse"])
def test_configs_are_found_in_any_folder(config, environment, tmp_path):
    wrong = "--config.train.steps=-3"
    status, _, err = run(environment / "ddpm", "train", config, wrong, cwd=tmp_path)
    assert status == 2 and "train.steps is -3" in err
    assert not list(tmp_path.iterdir())


def test_a_program_runs_in_any_folder(environment, tmp_path):
    data = "--config.data.data_dir=data"
    out = succeed(environment / "ddpm", "prepare", "digits", data, cwd=tmp_path)
    assert "digits train: 1437 images 8x8x1" in out
