"""Weights & Biases: what it is sent, one run for one folder, and training that ends well without it."""

import json
import sys
import types

import numpy as np
import pytest
from etils import epath
from support import offline
from support.command import TINY, ddpm, ddpm_process
from support.events import scalars

from ddpm_jax.runtime import metrics_log


class Library:
    """A stand-in for wandb that notes its calls; 'fails' are those that raise."""

    def __init__(self, *fails):
        self.fails, self.calls = fails, []
        self.Settings = types.SimpleNamespace
        self.Image = lambda image: ("image", image.shape)

    def note(self, call, *values):
        self.calls.append((call, *values))
        if call in self.fails:
            raise RuntimeError(f"{call}:\n no service")

    def init(self, mode, **arguments):
        self.arguments = arguments
        self.note(f"init {mode}", arguments["id"])
        settings = types.SimpleNamespace(mode=mode or "online", sync_dir="here")
        return types.SimpleNamespace(
            log=lambda values, step: self.note("log", step, values),
            finish=lambda exit_code: self.note("finish", exit_code),
            settings=settings,
            url="https://service/run",
        )

    def teardown(self):
        self.note("teardown")


@pytest.fixture
def library(monkeypatch):
    def install(*fails):
        made = Library(*fails)
        monkeypatch.setitem(sys.modules, "wandb", made)
        return made

    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return install


def write(folder):
    """What training does with a writer."""
    folder.mkdir(exist_ok=True)
    writer = metrics_log.writer(epath.Path(folder), 0, "wandb", {"seed": 3})
    writer.write_scalars(5, {"loss": 0.25})
    writer.write_images(5, {"samples": np.zeros((4, 6, 3), np.uint8)})
    writer.close()
    newest = (folder / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(newest) == {"step": 5, "loss": 0.25}
    assert scalars(folder)[-1] == (5, "loss", 0.25)


def test_numbers_and_grids_go_to_the_run_of_the_folder(library, tmp_path, monkeypatch, capsys):
    made = library()
    write(tmp_path / "first")
    id = made.arguments["id"]
    sent = [("log", 5, {"loss": 0.25}), ("log", 5, {"samples": ("image", (4, 6, 3))})]
    assert made.calls == [("init None", id), *sent, ("finish", 0)]
    assert made.arguments["project"] == "ddpm_jax" and made.arguments["name"] == "first"
    assert made.arguments["config"] == {"seed": 3} and made.arguments["resume"] == "allow"
    assert capsys.readouterr().out == "wandb    https://service/run\n"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    write(tmp_path / "first")
    assert made.arguments["id"] == id and made.arguments["project"] == "mine"
    write(tmp_path / "second")
    assert made.arguments["id"] != id


@pytest.mark.parametrize(
    "fails, calls, said",
    [
        (
            ["init None"],
            ["init None", "teardown", "init offline", "log", "log", "finish"],
            "start: ",
        ),
        (["init None", "init offline"], 2 * ["init", "teardown"], "could not start offline: init"),
        (
            ["log"],
            ["init None", "log", "finish"],
            "failed at step 5, and is left out from here: log",
        ),
        (["finish"], ["init None", "log", "log", "finish"], "did not end well: finish: no service"),
    ],
)
def test_nothing_that_fails_there_stops_training(fails, calls, said, library, tmp_path, capsys):
    made = library(*fails)
    write(tmp_path)
    assert [call[0] for call in made.calls] == calls or fails == ["init None", "init offline"]
    lines = capsys.readouterr().out.splitlines()
    assert any(said in line for line in lines) and all(line[:9] == "wandb    " for line in lines)
    if fails == ["init None"]:
        assert lines[1] == "wandb    records in here; wandb sync here sends it"


def test_training_that_fails_ends_its_run_as_failed(library, tmp_path):
    made = library()
    writer = metrics_log.writer(epath.Path(tmp_path), 0, "wandb")
    try:
        raise RuntimeError("of training")
    except RuntimeError:
        writer.close()
    assert made.calls[-1] == ("finish", 1)


def test_without_a_tracker_the_library_is_not_looked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    writer = metrics_log.writer(epath.Path(tmp_path), 0)
    writer.write_scalars(5, {"loss": 0.25})
    writer.close()
    assert not (tmp_path / "wandb.json").exists()


def test_a_library_that_is_missing_is_named_before_anything_is_written(
    tmp_path, monkeypatch, digits
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    data = f"--config.data.data_dir={digits}"
    folder = f"--workdir={tmp_path}/run"
    status, _, err = ddpm(*TINY, data, folder, "--config.train.tracker=wandb")
    assert (status, err.count("\n")) == (2, 1) and "pip install 'ddpm_jax[wandb]'" in err
    assert not list(tmp_path.iterdir())
    status, _, err = ddpm(*TINY, data, folder, "--config.train.tracker=wandbb")
    assert status == 2 and "train.tracker is 'wandbb'" in err


@pytest.mark.slow
def test_a_run_that_is_resumed_is_one_run_with_the_rows_of_its_metrics(
    tmp_path, monkeypatch, digits
):
    """wandb itself, offline, in processes that train; the second continues the first by its id."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    command = [*TINY, f"--config.data.data_dir={digits}", f"--workdir={tmp_path}/run"]
    command += ["--config.train.tracker=wandb", "--config.train.sample_every=2"]
    for steps in (4, 8):
        status, out, err = ddpm_process(*command, f"--config.train.steps={steps}")
        assert status == 0 and "wandb sync" in out, err
    first, second = offline.rows(tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    sent = [
        {"step": row["_step"]}
        | {name: row[name] for name in row if name[0] != "_" and "." not in name}
        for row in [*first, *second]
    ]
    assert sent == [json.loads(line) for line in lines]
    assert [row["step"] for row in sent] == [1, 2, 4, 6, 8]
    shown = {row["_step"]: row.get("samples._type") for row in [*first, *second]}
    assert shown == {1: None} | dict.fromkeys((2, 4, 6, 8), "image-file")
    id = json.loads((tmp_path / "run" / "wandb.json").read_text())["id"]
    assert len(list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{id}"))) == 2


@pytest.mark.slow
def test_a_service_that_cannot_be_reached_leaves_a_record_here(tmp_path, monkeypatch):
    """wandb itself, with its own waits and errors, and no service at the address."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "5")
    write(tmp_path)
    (rows,) = offline.rows(tmp_path)
    assert [(row["_step"], row["loss"]) for row in rows] == [(5, 0.25)]
