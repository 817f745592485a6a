"""What a program says while it is busy: in its progress bar, or in a line without one."""

import io
import time

import pytest
from tqdm.auto import tqdm

from ddpm_jax.runtime import console


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(console, "PATIENCE", 0.05)


def wait_for(lines, count=1):
    deadline = time.monotonic() + 10.0
    while len(lines) < count and time.monotonic() < deadline:
        time.sleep(0.005)


def test_without_a_bar_a_line_says_what_takes_long_and_once(patience):
    """In the thread of the caller, or the caller's listener would not have it."""
    lines = []
    with console.quiet(lines.append), console.doing("saving"):
        wait_for(lines)
        time.sleep(0.1)
    assert lines == ["saving ..."]


def test_what_is_done_soon_is_not_said_unless_at_once(monkeypatch):
    lines = []
    with console.quiet(lines.append):
        with console.doing("saving", console.progress("training", 3)):  # a bar that is hidden
            pass
        monkeypatch.setattr(console, "PATIENCE", 0.0)
        with console.doing("compiling", at_once=True):
            time.sleep(0.05)
    assert lines == ["compiling ..."]


def test_a_bar_shows_it_while_it_lasts_and_then_its_own_label_also_after_an_error(patience):
    lines, screen = [], io.StringIO()
    with console.quiet(lines.append), tqdm(desc="training", total=3, file=screen) as bar:
        with pytest.raises(ValueError), console.doing("saving", bar):
            assert screen.getvalue().rpartition("\r")[2].startswith("saving: ")
            time.sleep(0.1)
            raise ValueError
        assert screen.getvalue().rpartition("\r")[2].startswith("training: ")
    assert not lines
