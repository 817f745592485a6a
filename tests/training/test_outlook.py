"""What training says of the time that is left."""

import itertools
import shlex
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from conftest import load
from support.training import run_of

from ddpm_jax.cli import command_line, positional
from ddpm_jax.config import config_file, data
from ddpm_jax.run import state
from ddpm_jax.runtime import console
from ddpm_jax.training import outlook


@pytest.fixture
def run(tiny, tmp_path):
    return run_of(tiny, tmp_path, **{"train.steps": 1_000_000})


@pytest.fixture
def clock(monkeypatch):
    """The time that the outlook reads, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(outlook, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def announced(run, clock, seconds, steps=40):
    """What is said after each of so many steps, which take these seconds, by the step."""
    announce, said = outlook.announcer(run), {}
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state.abstract(run))
    for step, took in zip(range(1, steps + 1), itertools.chain([100.0], seconds), strict=False):
        clock[0] += took
        with console.quiet(said.setdefault(step, []).append):
            announce(step, blank)
    return {step: lines for step, lines in said.items() if lines}


def test_the_time_left_is_said_once_after_ten_timed_steps_or_a_minute(run, clock):
    """The first step compiles and is not timed."""
    found = announced(run, clock, itertools.repeat(0.5))
    assert found == {11: ["about 6 days left: 999,989 steps of 0.5 s"]}
    found = announced(run, clock, itertools.repeat(43.0))
    assert [*found] == [3] and found[3][0] == "about 498 days left: 999,997 steps of 43 s"
    assert len(found[3]) == 2  # with advice


def test_a_grid_or_a_save_between_two_steps_is_not_taken_for_a_step(run, clock):
    found = announced(run, clock, [0.5, 0.5, 30.0, *[0.5] * 20])
    assert found == {11: ["about 6 days left: 999,989 steps of 0.5 s"]}


def test_advice_comes_with_weeks_only_and_names_what_the_machine_lacks(run):
    week = 7 * 24 * 3600.0 / run.train.steps
    assert len(outlook.describe(run, 0, 0.99 * week)) == 1
    _, advice = outlook.describe(run, 0, 1.01 * week)
    assert "fewer steps" in advice and advice.endswith("or a GPU or TPU")


def test_for_pictures_of_one_s_own_the_advice_is_a_config_that_takes_no_weeks(run):
    folder = data.data_source(load("image_folder").data.to_dict() | {"path": "my pictures"})
    run = run._replace(data=folder, name="image_folder")
    advice = outlook.advice(run)
    args = shlex.split(advice.partition("ddpm ")[2])
    command = command_line.parse(["main", *positional.to_flags(args)])
    assert command.config.data.path == "my pictures"
    assert command.config.to_dict() | {"data": {}} == load("image_folder", "laptop").to_dict() | {
        "data": {}
    }
    config_file.load(outlook.GPU)
    other = outlook.advice(run._replace(name="image_folder-laptop"))  # which is the least there is
    assert "image_folder" not in other and "fewer steps" in other


@pytest.mark.parametrize(
    "seconds, text",
    [(45.0, "45 seconds"), (720.0, "12 minutes"), (12240.0, "3.4 hours"), (34560000.0, "400 days")],
)
def test_a_duration_is_said_in_the_unit_that_fits_it(seconds, text):
    assert console.describe_duration(seconds) == text
