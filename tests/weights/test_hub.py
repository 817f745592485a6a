"""Models to and from a hub on this machine: the same weights and samples, no file more than needed, a line for each error."""

import json
import os
import signal
import subprocess
import sys
import threading
import types

import jax
import numpy as np
import pytest
from conftest import ROOT
from etils import epath
from safetensors.numpy import save
from support import hub as server
from support import loud
from support.command import ddpm
from support.hub import TOKEN

import ddpm_jax
from ddpm_jax.cli import command_line
from ddpm_jax.run import state
from ddpm_jax.weights import exporting, formats, imported_config, tensor_files
from ddpm_jax.weights import hub as hub_module
from ddpm_jax.weights import source as weights_source

WEIGHTS = f"unet/{tensor_files.WEIGHTS[0]}"
NAME = "someone/photos"


@pytest.fixture
def run(photos, tmp_path):
    """This test's own copy of it."""
    return loud.copy(photos, tmp_path / "run")


@pytest.fixture(scope="module")
def files(photos):
    """What its repository holds."""
    tensors = formats.to_tensors("diffusers", loud.weights(state.abstract(photos).params, loud.EMA))
    described = exporting.folder_json(photos).items()
    return {WEIGHTS: save(tensors)} | {
        path: json.dumps(value).encode() for path, value in described
    }


def equal(one, other) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def fetch(run, *args):
    """A command that imports NAME beside the run."""
    pictures = f"--config.data.path={run.config['data']['path']}"
    data = f"--config.data.data_dir={run.config['data']['data_dir']}"
    return ddpm("import", f"hf:{NAME}", pictures, data, *args, cwd=run.directory.parent)


def test_what_is_exported_is_loaded_by_its_name(hub, run, unchecked, capfd):
    status, out, err = ddpm("export", run.directory, f"--target=hf:{NAME}")
    assert (status, err) == (0, "") and f"exported {hub.url}/{NAME}" in out
    assert hub.repositories[NAME].private and "private" in out
    trained = ddpm_jax.load(f"hf:{NAME}")
    assert capfd.readouterr() == ("", "")
    assert equal(trained.params, loud.weights(trained.params, loud.EMA))
    assert trained.run.name == "photos" and trained.schedule.T == 4
    assert {token for _, path, token in hub.requests if NAME in path} == {f"Bearer {TOKEN}"}
    assert TOKEN not in out + b"".join(hub.files(NAME).values()).decode(errors="replace")


def test_an_import_is_named_after_the_repository_and_says_where_its_files_are(hub, files, tmp_path):
    hub.add(NAME, files)
    command = command_line.parse(["main", "import", f"hf:{NAME}@main"])
    assert str(command.directory) == "runs/photos" and command.name == "photos"
    assert command.options["source"] == f"hf:{NAME}@main"
    assert command.config.data.name == "image_folder" and command.config.data.image_size == 16
    source = weights_source.read(command.options["source"], "auto")
    (kept,) = [note for note in source.notes if "its files are kept in" in note]
    folder = kept.partition("kept in ")[2]
    assert folder.startswith(f"{tmp_path}/cache/") and os.path.exists(f"{folder}/{WEIGHTS}")


def test_the_name_of_a_repository_says_which_data(hub, files):
    source = weights_source.open_source
    hub.add("someone/ddpm-cifar10-32", files)
    found = source(epath.Path("hf:someone/ddpm-cifar10-32@main"))._replace(shape=(32, 32, 3))
    assert imported_config.find_base(found).name == "cifar10.py"


@pytest.mark.slow
def test_its_samples_are_the_runs_own(hub, run, tmp_path):
    """Bit for bit, from the run, by the name, and from an import: three compilations, and an import's checkpoint."""
    assert ddpm("export", run.directory, f"--target=hf:{NAME}")[0] == 0
    assert ddpm("sample", run.directory)[0] == 0
    (path,) = (run.directory / "samples").glob("*.npz")
    wanted = np.load(path)["arr_0"]
    assert fetch(run, "--config.parallel.devices=1", "--config.sample.batch_size=2")[0] == 0
    for source in (f"hf:{NAME}", tmp_path / "runs" / "photos"):
        trained = ddpm_jax.load(source)
        found = trained.sample(2, seed=0, batch_size=max(2, trained.run.mesh.size))
        assert np.array_equal(found, wanted) and wanted.std() > 20


def flat(files):
    """As google's repositories are."""
    return {path.rpartition("/")[2]: content for path, content in files.items()}


def with_more(files):
    return files | {
        "README.md": b"card",
        "samples.png": b"picture",
        "unet/diffusion_pytorch_model.bin": b"torch's",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"halves",
        "vae/diffusion_pytorch_model.safetensors": b"of another part",
        "optimizer.bin": b"of training",
    }


def variant(files):
    """With half the digits only, and a card."""
    name = "unet/diffusion_pytorch_model.fp16.safetensors"
    rest = {path: content for path, content in files.items() if path != WEIGHTS}
    return rest | {name: files[WEIGHTS], "README.md": b"card"}


@pytest.mark.parametrize("kind", [flat, with_more, variant])
def test_only_what_is_needed_is_downloaded_and_only_once(kind, hub, files):
    stored = kind(files)
    hub.add(NAME, stored)
    needed = flat(files) if kind is flat else variant(files) if kind is variant else files
    first = weights_source.open_source(epath.Path(f"hf:{NAME}"))
    assert sorted(hub.downloaded()) == sorted(needed.keys() - {"README.md"})
    hub.requests.clear()
    again = weights_source.open_source(epath.Path(f"hf:{NAME}"))
    assert not hub.downloaded() and equal(dict(first.tensors), dict(again.tensors))


def test_a_revision_is_the_commit_that_it_names(hub, files):
    old = hub.add(NAME, files)
    tensors = dict(weights_source.open_source(epath.Path(f"hf:{NAME}")).tensors)
    hub.add(NAME, {"README.md": b"nothing is left"})
    assert equal(tensors, dict(weights_source.open_source(epath.Path(f"hf:{NAME}@{old}")).tensors))
    with pytest.raises(ValueError, match=r"neither unet/config.json nor config.json"):
        weights_source.open_source(epath.Path(f"hf:{NAME}"))


def test_all_files_are_of_one_commit(hub, files, monkeypatch):
    """Though the branch moves between the description and the weights."""
    first = hub.add(NAME, files)
    read = weights_source.read_network

    def meanwhile(folder):
        hub.add(NAME, {**files, WEIGHTS: b"of a later commit"})
        return read(folder)

    monkeypatch.setattr(weights_source, "read_network", meanwhile)
    source = weights_source.open_source(epath.Path(f"hf:{NAME}"))
    assert source.shape == (16, 16, 3) and first in source.notes[-1]


def other_pipeline(files):
    index = json.loads(files["model_index.json"]) | {"vae": ["diffusers", "AutoencoderKL"]}
    return files | {"model_index.json": json.dumps(index).encode()}


def other_network(files):
    config = json.loads(files["unet/config.json"]) | {"_class_name": "UNet2DConditionModel"}
    return files | {"unet/config.json": json.dumps(config).encode()}


@pytest.mark.parametrize("kind", [other_pipeline, other_network])
def test_weights_of_another_model_are_not_downloaded(kind, hub, files, run):
    hub.add(NAME, kind(files))
    status, _, err = fetch(run)
    assert status == 2 and err.startswith(f"ddpm_jax: --source hf:{NAME} cannot be imported: it")
    assert WEIGHTS not in hub.downloaded()


def absent(hub, patch):
    del hub.repositories[NAME]


def without_token(hub, patch):
    hub.repositories[NAME].private = True
    patch.delenv("HF_TOKEN")
    patch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")


def gated(hub, patch):
    without_token(hub, patch)
    hub.repositories[NAME].private, hub.repositories[NAME].gated = False, True


def wrong_token(hub, patch):
    patch.setenv("HF_TOKEN", "hf_anotherTokenOfNobody")


def ill(hub, patch):
    hub.status = 503
    quick(patch)


def elsewhere(hub, patch):
    patch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")


def offline(hub, patch):
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def always_cut(hub, patch):
    hub.cuts = 100
    quick(patch)


def quick(patch):
    """The library's waits between attempts take no time."""
    waits = types.SimpleNamespace(sleep=lambda seconds: None)
    for module in ("file_download", "utils._http"):
        patch.setattr(f"huggingface_hub.{module}.time", waits)


READING = {
    "no such repository": (absent, 2, "has no model hf:someone/photos, or it is private and the"),
    "a private one without a token": (without_token, 2, "private and needs a token: set HF_TOKEN"),
    "conditions": (gated, 2, "is gated: accept its conditions at "),
    "a wrong token": (wrong_token, 2, "refuses the token; renew HF_TOKEN"),
    "an ill server": (ill, 1, "answered 503 when asked for hf:someone/photos; try again"),
    "no server": (
        elsewhere,
        1,
        "http://127.0.0.1:9 cannot be reached, or broke off (ConnectError: ",
    ),
    "offline": (offline, 1, "HF_HUB_OFFLINE is set, and "),
    "a line that is cut": (always_cut, 1, "cannot be reached, or broke off ("),
}


@pytest.mark.parametrize("name", READING)
def test_what_cannot_be_read_is_one_line(name, hub, files, run, monkeypatch):
    """Exit 2 for what the user has to change, and 1 for a network that may be better tomorrow."""
    hub.add(NAME, files)
    spoil, expected, words = READING[name]
    spoil(hub, monkeypatch)
    status, out, err = fetch(run)
    assert (status, err.count("\n")) == (expected, 1) and err.startswith("ddpm_jax: ")
    assert words in err and "hf_a" not in out + err and "Unreachable" not in err
    assert not (run.directory.parent / "runs").exists()


def test_a_download_that_broke_off_is_completed_by_the_next_command(hub, files, monkeypatch):
    """What it had finished, the descriptions, is not downloaded again."""
    hub.add(NAME, files)
    hub.cuts = 100
    quick(monkeypatch)
    with pytest.raises(hub_module.Unreachable):
        ddpm_jax.load(f"hf:{NAME}")
    hub.cuts = 0
    hub.requests.clear()
    trained = ddpm_jax.load(f"hf:{NAME}")
    assert equal(trained.params, loud.weights(trained.params, loud.EMA))
    assert hub.downloaded() == [WEIGHTS]


def test_load_raises_what_the_command_prints(hub, files, monkeypatch):
    hub.add(NAME, files)
    with pytest.raises(ValueError, match=r"hf:someone/none cannot be opened: http.* has no model"):
        ddpm_jax.load("hf:someone/none")
    with pytest.raises(ValueError, match=r"@v9 cannot be opened: .* has no revision v9"):
        ddpm_jax.load(f"hf:{NAME}@v9")
    hub.requests.clear()
    with pytest.raises(ValueError, match="foreign weights, which have no step; omit step=3"):
        ddpm_jax.load(f"hf:{NAME}", step=3)
    assert not hub.requests


@pytest.mark.parametrize(
    "args, words",
    [
        (["--config.data.pth=x"], "no field data.pth; did you mean data.path?"),
        (["--wrokdir=x"], "unknown flag --wrokdir; did you mean --workdir?"),
        (["--config.train.steps=many"], "train.steps is 'many'; it must be an integer"),
        (["--step=3"], "--step goes with --mode="),
        (["--format=tf1"], "only diffusers' models are read from the hub, not tf1"),
        (["--workdir=run"], "run already holds a run; import into another --workdir"),
    ],
)
def test_what_is_mistyped_is_told_before_the_hub_is_asked(args, words, hub, files, run):
    hub.add(NAME, files)
    status, _, err = fetch(run, *args)
    assert status == 2 and words in err and not hub.requests


@pytest.mark.parametrize(
    "name",
    ["hf:", "hf:photos", "hf:a/b/c", "hf:a/b@", "hf:../b", "hf:a/b--c", "hf://a/b", "hf:a/b c"],
)
def test_a_name_has_an_owner_and_a_name(name, hub):
    with pytest.raises(ValueError, match="must be hf:OWNER/NAME, or hf:OWNER/NAME@REVISION"):
        hub_module.parse(name)
    status, _, err = ddpm("import", name)
    assert status == 2 and "must be hf:OWNER/NAME" in err and not hub.requests


def test_the_library_is_named_where_it_is_missing(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for command in (["import", f"hf:{NAME}"], ["export", run.directory, f"--target=hf:{NAME}"]):
        status, _, err = ddpm(*command, cwd=run.directory.parent)
        assert (status, err.count("\n")) == (2, 1) and "pip install 'ddpm_jax[hub]'" in err
    with pytest.raises(ValueError, match=r"pip install 'ddpm_jax\[hub\]'"):
        ddpm_jax.load(f"hf:{NAME}")


def test_a_name_of_the_hub_is_no_config():
    status, _, err = ddpm("train", f"hf:{NAME}")
    assert status == 2 and f"make one of these weights first: ddpm import hf:{NAME}" in err


@pytest.mark.slow
def test_a_download_that_was_killed_begins_again(files, run, tmp_path):
    """A process that kill -9 ends halfway through the weights; with the library's settings in its environment alone."""
    with server.serve() as hub:
        hub.add(NAME, files)
        settings = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
        environment = (
            os.environ | settings | {"HF_HOME": f"{tmp_path}/home", "PYTHONPATH": str(ROOT)}
        )
        data = [f"--config.data.{name}={run.config['data'][name]}" for name in ("path", "data_dir")]
        command = [sys.executable, "-m", "ddpm_jax.main", "import", f"hf:{NAME}", *data]
        hub.cuts, hub.halfway = 1, threading.Event()
        first = subprocess.Popen(command, cwd=tmp_path, env=environment)
        assert hub.halfway.wait(120)
        first.send_signal(signal.SIGKILL)
        first.wait()
        hub.going_on.set()
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0 and f"kept in {tmp_path}/home/hub/" in done.stdout, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    _, ema = state.read_ema(run)
    assert equal(ddpm_jax.load(tmp_path / "runs" / "photos").params, ema)
