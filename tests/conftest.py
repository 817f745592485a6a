"""Eight forced CPU devices, cheap compilation, and checked shapes, for every test."""

import os
import pathlib
from importlib import metadata

CHEAP = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if metadata.version("jaxlib").startswith(("0.7.", "0.8.", "0.9.", "0.10.")):
    CHEAP += (
        " --xla_cpu_use_fusion_emitters=false"  # half the time; later ones abort, not knowing it
    )
FLAGS = f"--xla_force_host_platform_device_count=8 {CHEAP}"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
os.environ["JAX_PLATFORMS"] = "cpu"
# Every worker's BLAS would take every core, and its threads wait by spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = pathlib.Path(__file__).parents[1]
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

from jaxtyping import install_import_hook  # noqa: E402
from support import checker  # noqa: E402, F401  (the hook finds it by name)

install_import_hook("ddpm_jax", "support.checker.check")

import functools  # noqa: E402
import importlib.util  # noqa: E402
import runpy  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402
from scipy import stats  # noqa: E402
from support import hub as hub_server  # noqa: E402
from support import loud  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

threadpool_limits(1)  # for what a plugin has imported before the variables above were set
CONFIGS = ROOT / "configs"
# The slow proofs install the extra launch-test, which these files need.
NOTEBOOKS = ["launch/test_launch_files.py", "api/test_notebook.py"]
collect_ignore = [] if importlib.util.find_spec("nbclient") else NOTEBOOKS


@pytest.fixture
def x64():
    """Float64 throughout, where a theorem is to be seen to more digits than float32 has."""
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable(True):
        yield


@pytest.fixture
def unchecked():
    """Without checks of types, where a test builds or traces so much that they are half its time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A folder on the Python path for user code; what is imported from it is forgotten afterwards."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    known = set(sys.modules)
    yield folder
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub of this test's own that huggingface_hub talks to, with an empty cache and a token."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with hub_server.serve() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        files = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        yield served


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A data_dir in which the digits are prepared."""
    from ddpm_jax.datasets import library

    folder = tmp_path_factory.mktemp("tfds")
    library.open_builder("digits", str(folder))
    return folder


def load(name: str, row: str = "") -> ConfigDict:
    """A config of configs/."""
    get_config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]
    return get_config(row) if row else get_config()


def log_bin(upper, lower):
    """log of the standard normal's mass between two points, in float64, precise in both tails."""
    flipped = lower + upper > 0
    upper, lower = np.where(flipped, -lower, upper), np.where(flipped, -upper, lower)
    high, low = stats.norm.logcdf(upper), stats.norm.logcdf(lower)
    with np.errstate(invalid="ignore", divide="ignore"):
        return high + np.log(-np.expm1(np.minimum(low - high, 0.0)))


@pytest.fixture
def tiny(digits):
    return tiny_config(digits)


def tiny_config(digits) -> ConfigDict:
    """digits.py with a network that compiles in seconds."""
    config = load("digits")
    config.data.data_dir = str(digits)
    config.model.update(channels=4, multipliers=(1,), blocks=1, attention=(), dropout=0.1)
    config.diffusion.schedule.T = 8
    config.optimizer.update(warmup=2, ema_decay=0.9)
    config.train.update(
        steps=6, batch_size=16, log_every=2, checkpoint_every=2, sample_every=0, keep=10
    )
    config.train.grid.update(solver="ancestral", steps=8, count=4)
    config.sample.update(solver="ancestral", steps=8, count=8, batch_size=8)
    config.eval.update(images=0, steps=8, batch_size=8)
    config.eval.quality.samples = 0
    config.parallel.devices = 1
    return config


@pytest.fixture(scope="session")
def loud_folder(digits, tmp_path_factory):
    """Returns the folder of the loud run of a kind, which the first test that asks for it writes."""

    @functools.cache
    def folder(kind: str):
        path = tmp_path_factory.mktemp(f"loud-{kind}")
        loud.write(loud.run_of(loud.config(tiny_config(digits), kind), path))
        return path

    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """The loud run of a network that diffusers has too, and pictures for it."""
    return loud.photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def loud_run(digits, loud_folder, tmp_path):
    """Returns a run on this test's own copy of the loud run of a kind, with some fields changed."""

    def run(kind: str = "plain", **fields):
        path = tmp_path / kind
        if not path.exists():
            shutil.copytree(loud_folder(kind), path)
        return loud.run_of(loud.config(tiny_config(digits), kind), path, **fields)

    return run
