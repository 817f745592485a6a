"""Which steps are logged, and when a checkpoint is due by the clock."""

import math
from types import SimpleNamespace

import pytest

from ddpm_jax.distributed import processes
from ddpm_jax.training import cadence


@pytest.mark.parametrize(
    "every, logged",
    [(100, [1, 2, 5, 10, 20, 50, 100, 200]), (3, [1, 2, *range(3, 250, 3)]), (1, range(1, 250))],
)
def test_the_first_steps_are_logged_and_then_every_nth(every, logged):
    assert [step for step in range(1, 250) if cadence.is_logged(step, every)] == list(logged)


def test_the_first_steps_of_a_long_run_are_logged_however_rare_its_rows():
    early = [step for step in range(1, 10**4) if cadence.is_logged(step, 10**4)]
    assert early[-3:] == [1000, 2000, 5000]


def saves(monkeypatch, minutes, seconds, steps=6000, start=0.0, share=None):
    """The steps at which a process saves whose steps take seconds(step) each, and the times of the saves."""
    now, found, asked = [start], {}, []

    def answer(place, value):
        asked.append(place)
        return share(place, value) if share else value

    monkeypatch.setattr(cadence, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(processes, "share", answer)
    clock = cadence.Clock.start(0)
    for step in range(1, steps + 1):
        now[0] += seconds(step)
        due, clock = cadence.check(clock, step, minutes)
        if due:
            found[step] = now[0] - start
            clock = cadence.Clock.start(step)
    return found, asked


def compile_then(seconds):
    return lambda step: 100.0 if step == 1 else seconds


@pytest.mark.parametrize("seconds", [0.1, 1.0, 43.0, 700.0])
def test_checkpoints_are_so_many_minutes_apart_whatever_a_step_takes(monkeypatch, seconds):
    found, asked = saves(monkeypatch, 5.0, compile_then(seconds), steps=4000)
    gaps = [b - a for a, b in zip([0.0, *found.values()], found.values(), strict=False)]
    assert all(300.0 <= gap <= 300.0 + seconds for gap in gaps[1:])  # the first one compiles
    assert len(found) >= int(3999 * seconds / (300.0 + seconds)) > 0
    assert len(asked) <= 20 * (len(found) + 1)


def test_steps_that_become_ten_times_slower_delay_a_checkpoint_by_less(monkeypatch):
    found, _ = saves(monkeypatch, 10.0, lambda step: 0.1 if step < 2000 else 1.0, steps=8000)
    times = [0.0, *found.values()]
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) < 5.5 * 600.0


def test_no_minutes_are_no_checkpoints_and_nobody_is_asked(monkeypatch):
    assert saves(monkeypatch, 0.0, lambda step: math.inf) == ({}, [])


def test_all_processes_save_at_the_steps_of_the_first_one_whatever_their_clocks(monkeypatch):
    """What the first one answers is read by the others at the same steps, and at no other."""
    answers = {}
    first, asked = saves(
        monkeypatch,
        1.0,
        compile_then(0.5),
        share=lambda place, value: answers.setdefault(place, value),
    )
    other, also_asked = saves(
        monkeypatch, 1.0, lambda step: 0.1, start=77.0, share=lambda place, value: answers[place]
    )
    assert list(first) == list(other) and len(first) > 40
    assert asked == also_asked == list(answers) and len(asked) < 1000  # of 6000 steps


def test_one_process_asks_nobody():
    assert processes.share("a place", 0.25) == 0.25
