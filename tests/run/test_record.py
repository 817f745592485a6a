"""A folder's config.json binds a config that is trained there later, if anything was trained."""

import json

import pytest
from etils import epath

from ddpm_jax.run import record

FILES = {  # what training leaves, and what is made from it
    "a checkpoint": "checkpoints/4/state/x",
    "a damaged checkpoint": "checkpoints/4-damaged/x",
    "a logged row": "metrics.jsonl",
    "a sample": "samples/4-grid.png",
    "a bound": "eval/4-likelihood-test.json",
}


@pytest.fixture
def folder(tiny, tmp_path):
    record.write(epath.Path(tmp_path), tiny.to_dict(), (8, 8, 1), 17)
    return epath.Path(tmp_path)


def other(tiny):
    tiny.optimizer.learning_rate = 0.125
    return tiny.to_dict()


def test_where_nothing_was_trained_another_config_may_take_the_folder_and_says_so(
    tiny, folder, capsys
):
    for name in ("checkpoints/2.orbax-checkpoint-tmp", "samples", "eval"):
        (folder / name).mkdir(parents=True)
    for name in ("events.out.tfevents", "lock", "samples/training-images.png"):
        (folder / name).write_text("")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')  # before the first of log_every steps
    config = other(tiny)
    record.check_same_run(folder, config)
    assert record.read_binding(folder, config) is None and not capsys.readouterr().out
    record.write(folder, config, (8, 8, 1), 17)
    assert "of another config, with which nothing was trained" in capsys.readouterr().out
    record.write(folder, config, (8, 8, 1), 17)
    assert not capsys.readouterr().out and record.read_binding(folder, config)


@pytest.mark.parametrize("name", FILES)
def test_where_something_was_trained_it_may_not(tiny, folder, name):
    (folder / FILES[name]).parent.mkdir(parents=True, exist_ok=True)
    (folder / FILES[name]).write_text('{"step": 2}\n')
    with pytest.raises(ValueError, match=r"optimizer.learning_rate \(0.004 -> 0.125\)"):
        record.check_same_run(folder, other(tiny))


def test_auto_agrees_with_whatever_is_stored(tiny, folder):
    (folder / "checkpoints" / "4").mkdir(parents=True)
    with tiny.unlocked():
        del tiny.model.attention
        tiny.model.attention = "auto"
    record.check_same_run(folder, tiny.to_dict())


def test_a_field_that_did_not_exist_is_read_as_what_it_meant_at_any_depth(folder):
    path = folder / "config.json"
    written = json.loads(path.read_text())
    older = json.loads(path.read_text())
    del older["config"]["sample"]["spacing"], older["config"]["eval"]["quality"]["metrics"]
    del older["config"]["train"]["checkpoint_minutes"]
    path.write_text(json.dumps(older))
    assert record.read(folder)["config"] == written["config"]
    del older["config"]["eval"]["quality"]  # no section is made up
    path.write_text(json.dumps(older))
    assert "quality" not in record.read(folder)["config"]["eval"]
