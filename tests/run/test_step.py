"""--step: which checkpoint of a run is read, and what is said where it has no such checkpoint."""

import shutil

import jax
import numpy as np
import pytest
from conftest import tiny_config
from etils import epath
from support import loud

from ddpm_jax.evaluation import program
from ddpm_jax.run import sampling, state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint

AT = {2: 3, 4: loud.EMA}  # the draw of the EMA at each step


@pytest.fixture(scope="module")
def written(digits, tmp_path_factory) -> Run:
    """The loud run with a checkpoint of each step."""
    config = loud.config(tiny_config(digits), "plain")
    run = loud.run_of(config, tmp_path_factory.mktemp("both"))
    loud.write(run, *[loud.train_state(run, ema=draw, step=step) for step, draw in AT.items()])
    return run


@pytest.fixture
def run(written, tmp_path) -> Run:
    """The same in a folder that a test may change."""
    folder = epath.Path(tmp_path / "run")
    shutil.copytree(written.directory, folder)
    return written._replace(directory=folder, checkpoints=folder / "checkpoints")


def read_draw(run: Run) -> tuple[int, int]:
    """The step that is read, and the draw of the EMA that is found there."""
    step, params = state.read_weights(run)
    like = state.abstract(run).params
    for draw in AT.values():
        pairs = zip(*map(jax.tree.leaves, (params, loud.weights(like, draw))), strict=True)
        if all(np.array_equal(one, other) for one, other in pairs):
            return step, draw
    raise AssertionError("other weights")


def test_the_chosen_checkpoint_is_read_and_the_newest_without_a_choice(run):
    assert read_draw(state.choose_step(run, None)) == (4, AT[4])
    for step in (2, "2"):
        chosen = state.choose_step(run, step)
        assert read_draw(chosen) == (2, AT[2]) and state.step_to_read(chosen) == 2
    assert state.step_to_read(run) == 4


def test_the_best_is_the_one_that_follow_keeps_of_the_same_weights(run):
    best = run.directory / "best" / "checkpoints"
    best.mkdir(parents=True)
    (run.checkpoints / "2").rename(best / "2")
    assert read_draw(state.choose_step(run, "best")) == (2, AT[2])
    assert read_draw(state.choose_step(run, 2)) == (2, AT[2])  # where training has deleted it
    with pytest.raises(ValueError, match="with --weights=raw for these weights"):
        state.choose_step(run._replace(weights="raw"), "best")


def test_without_follow_the_best_is_the_kept_one_of_the_lowest_loss(run):
    for lowest in AT:
        for step in AT:
            path = run.checkpoints / f"{step}" / "record" / "metadata"
            record = path.read_text().replace("Infinity", "0.5")
            path.write_text(record.replace("0.5", "0.25") if step == lowest else record)
        kept = run._replace(train=run.train._replace(keep_best="loss"))
        assert state.choose_step(kept, "best").step == lowest
        for step in AT:
            path = run.checkpoints / f"{step}" / "record" / "metadata"
            path.write_text(path.read_text().replace("0.25", "0.5"))
    with pytest.raises(ValueError, match="no best checkpoint; --mode=evaluate --follow"):
        state.choose_step(run, "best")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("3", "no checkpoint of step 3; it has those of 2, 4"),
        ("newest", "step of a checkpoint, or best"),
    ],
)
def test_a_checkpoint_that_a_run_lacks_is_refused_with_those_that_it_has(run, step, said):
    with pytest.raises(ValueError, match=said):
        state.choose_step(run, step)


def test_a_damaged_choice_is_named_and_no_other_is_taken_instead(run):
    (run.checkpoints / "2" / "record" / "metadata").write_text("{}")
    with pytest.raises(checkpoint.Damaged, match="checkpoints/2"):
        state.read_weights(state.choose_step(run, 2))


def test_follow_takes_no_step(run):
    with pytest.raises(ValueError, match="leave out --step"):
        program.check(state.choose_step(run, 2), follow=True)


def test_samples_of_a_step_are_named_by_it(run, monkeypatch):
    names = []
    monkeypatch.setattr(sampling, "write_samples", lambda run, step, params: names.append(step))
    sampling.generate(state.choose_step(run, 2))
    assert names == [2]
