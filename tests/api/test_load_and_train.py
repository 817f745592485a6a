"""load() and train(): which weights they give, and their manners: no output, no exit, ValueErrors, Ctrl-C that saves."""

import logging
import os
import shutil
import signal
import threading
import time
import warnings

import jax
import numpy as np
import pytest
from conftest import ROOT, tiny_config
from support import loud

import ddpm_jax
from ddpm_jax.cli import modes
from ddpm_jax.run import state
from ddpm_jax.runtime import signals


def is_draw(trained, draw):
    """Whether the weights are those of a draw of the loud run."""
    drawn = loud.weights(state.abstract(trained.run).params, draw)
    pairs = zip(*map(jax.tree.leaves, (trained.params, drawn)), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


@pytest.fixture
def folder(loud_folder, tmp_path):
    shutil.copytree(loud_folder("plain"), tmp_path / "run")
    return tmp_path / "run"


def test_a_run_is_opened_without_its_data_and_in_silence(folder, capfd):
    before = (
        signal.getsignal(signal.SIGINT),
        logging.getLogger("absl").level,
        list(warnings.filters),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        raw = ddpm_jax.load(str(folder), step=loud.STEP, weights="raw")
        average = ddpm_jax.load(folder)
    assert is_draw(raw, loud.RAW) and is_draw(average, loud.EMA)
    (young,) = [str(each.message) for each in caught]
    assert 'weights="raw"' in young
    assert "the EMA at step 4 is still 65.61 % initial weights" in young
    assert capfd.readouterr() == ("", "")
    assert before == (
        *(signal.getsignal(signal.SIGINT), logging.getLogger("absl").level),
        list(warnings.filters),
    )
    assert average.step == 4 and average.config["train"]["steps"] == 6 and average.schedule.T == 8
    assert repr(average).startswith("Trained('run', step 4, ema, 23,377 parameters, 8x8x1")


def test_a_run_of_more_devices_is_opened_with_as_many_as_can_share_its_batches(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"devices": 1', '"devices": 64'))
    assert ddpm_jax.load(folder, weights="raw").run.mesh.size == 8


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("nowhere", {}, "nowhere does not exist"),
        (".", {}, "holds no run, and no weights of a DDPM"),
        ("run", {"step": 3}, "no checkpoint of step 3; it has those of 4"),
        ("run", {"weights": "average"}, "it must be ema or raw"),
        ("run/checkpoints/4", {}, "is a checkpoint; load its run, run, with step=4"),
    ],
)
def test_what_cannot_be_opened_is_a_value_error(folder, monkeypatch, path, fields, said):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ValueError, match=said):
        ddpm_jax.load(path, **fields)


def test_a_run_without_a_checkpoint_says_so(folder):
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(ValueError, match="has no checkpoint yet; train it first"):
        ddpm_jax.load(folder)


def test_a_damaged_checkpoint_is_an_error_if_chosen_and_else_a_warning(folder):
    shutil.copytree(folder / "checkpoints" / "4", folder / "checkpoints" / "5")
    (folder / "checkpoints" / "5" / "record" / "metadata").write_text("{}")
    with pytest.warns(UserWarning, match="5.*; trying the one before"):
        assert ddpm_jax.load(folder, weights="raw").step == 4
    with pytest.raises(RuntimeError, match="checkpoints/5"):
        ddpm_jax.load(folder, step=5)


def train_with(monkeypatch, program):
    """Puts another program in the place of training."""
    monkeypatch.setattr(
        modes, "function", lambda name: program if "cli.training:train" in name else function(name)
    )


function = modes.function


def test_training_takes_fields_by_their_names_and_gives_what_it_trained(
    folder, digits, monkeypatch, capfd
):
    runs = []
    train_with(monkeypatch, runs.append)
    config = loud.config(tiny_config(digits), "plain")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = ddpm_jax.train(config, folder, **{"train.steps": 9, "sample.count": 3})
    (run,) = runs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ddpm_jax.train(trained.config, folder, **{"train.steps": np.int64(9)})
    assert runs[1].train.steps == 9 and runs[1].config["model"] == run.config["model"]
    assert run.train.steps == 9 and run.sample.count == 3 and run.directory == folder
    assert is_draw(trained, loud.EMA) and capfd.readouterr() == ("", "")
    assert config.train.steps == 6  # the caller's is left as it was


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"train.stesp": 9}, "no field train.stesp; did you mean train.steps"),
        ({"train.steps": "many"}, "train.steps is 'many'; it must be int"),
        (
            {"optimizer.learning_rate": 1},
            "runs* holds a run with another config: optimizer.learning_rate",
        ),
    ],
)
def test_a_wrong_field_is_a_value_error_before_anything_is_written(folder, digits, fields, said):
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match=said):
        ddpm_jax.train(loud.config(tiny_config(digits), "plain"), folder, **fields)
    assert sorted(folder.rglob("*")) == before


def test_a_config_is_named_as_on_the_command_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no.py does not exist"):
        ddpm_jax.train("no.py")
    with pytest.raises(ValueError, match="train.batch_size is 0"):
        ddpm_jax.train(f"{ROOT}/configs/digits.py", **{"train.batch_size": 0})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stops", [True, False])
def test_ctrl_c_asks_training_to_save_and_a_second_one_leaves_it(
    folder, digits, monkeypatch, stops
):
    """The signal is real; no handler of ours is there to take it."""
    ended, done = threading.Event(), []

    def program(run):
        os.kill(os.getpid(), signal.SIGINT)
        while not signals.pending:
            time.sleep(0.01)
        if not stops:
            os.kill(os.getpid(), signal.SIGINT)
            ended.wait(30)
        time.sleep(0.3)  # saving
        done.append("saved")
        signals.check("at step 4 of 6")

    train_with(monkeypatch, program)
    config = loud.config(tiny_config(digits), "plain")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if stops:
        with pytest.warns(UserWarning, match="initial weights"):
            assert ddpm_jax.train(config, folder).step == 4 and done == ["saved"]
    else:
        with pytest.raises(KeyboardInterrupt):
            ddpm_jax.train(config, folder)
        ended.set()
    assert not signals.pending


@pytest.mark.slow
def test_it_trains_twice_in_one_process_and_resumes(digits, tmp_path, capfd):
    """A whole run and a resume, with nothing put in the place of any part: minutes with every check on."""
    config = tiny_config(digits)
    config.optimizer.ema_decay = 0.0
    for name in ("one", "two"):
        trained = ddpm_jax.train(config, tmp_path / name, **{"train.steps": 2})
        assert trained.step == 2 and trained.sample(4).std() > 1
    assert capfd.readouterr().out == ""
    longer = ddpm_jax.train(config, tmp_path / "one", progress=True)
    assert longer.step == 6 and "resuming from step 2" in capfd.readouterr().out
    whole = ddpm_jax.train(config, tmp_path / "whole")
    np.testing.assert_array_equal(whole.sample(4), longer.sample(4))
