"""One writer a folder."""

import json
import threading
import time

import pytest
from etils import epath

from ddpm_jax.runtime import lock


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path / "run")


@pytest.fixture(autouse=True)
def ended(monkeypatch):
    """The statuses with which this process would have been ended: none, unless a test empties it."""
    statuses = []
    monkeypatch.setattr(lock, "end_process", statuses.append)
    yield statuses
    assert not statuses


def test_the_second_is_refused_and_told_who_the_first_is(folder):
    with lock.hold(folder):
        written = json.loads((folder / "lock").read_text())
        with (
            pytest.raises(lock.InUse, match=f"in use by process {written['pid']} on .* since"),
            lock.hold(folder),
        ):
            pass
    with lock.hold(folder):
        pass


def test_a_heartbeat_keeps_others_out_and_silence_lets_them_in(folder):
    """What buckets need, tried on a folder with a clock a hundred times as fast."""
    folder.mkdir()
    path, fast = folder / "lock", {"beat": 0.1, "silence": 2.0}
    with lock.heartbeat_lock(path, **fast):
        time.sleep(0.05)
        with (
            pytest.raises(lock.InUse, match="in use by process"),
            lock.heartbeat_lock(path, **fast),
        ):
            pass
        assert path.exists()  # the refused one took nothing away
    assert not path.exists()
    path.write_text(json.dumps({"pid": 1, "host": "gone", "since": "then"}))
    with lock.heartbeat_lock(path, **fast):
        time.sleep(0.05)
        assert json.loads(path.read_text())["host"] != "gone"


def test_of_two_that_begin_together_one_enters(folder):
    folder.mkdir()
    entered, refused = [], []

    def begin():
        try:
            with lock.heartbeat_lock(folder / "lock", beat=0.4, silence=5.0):
                entered.append(1)
                time.sleep(1.5)
        except lock.InUse:
            refused.append(1)

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) == len(refused) == 1


def test_a_beat_that_fails_is_followed_by_others(folder, monkeypatch):
    folder.mkdir()
    path, content = folder / "lock", lock.read_text
    with lock.heartbeat_lock(path, beat=0.1, silence=1.0):
        failed = []

        def unreachable(path):
            failed.append(1)
            raise OSError("503")

        monkeypatch.setattr(lock, "read_text", unreachable)
        time.sleep(0.4)
        monkeypatch.setattr(lock, "read_text", content)
        before = path.read_text()
        time.sleep(0.4)
        assert failed and path.read_text() != before


def test_an_owner_whose_place_was_taken_ends_with_1_and_says_by_whom(folder, ended, capsys):
    """And leaves the other's lock as it is."""
    folder.mkdir()
    path = folder / "lock"
    with lock.heartbeat_lock(path, beat=0.05, silence=1.0):
        other = json.dumps({"pid": 77, "host": "elsewhere", "since": "then", "nonce": "other"})
        path.write_text(other)
        deadline = time.monotonic() + 10.0
        while not ended and time.monotonic() < deadline:
            time.sleep(0.01)
    assert ended.pop() == 1 and "in use by process 77 on elsewhere" in capsys.readouterr().err
    assert path.read_text() == other


def test_a_drive_without_locks_falls_back_to_heartbeats_at_once(folder, monkeypatch):
    def unsupported(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    started = time.monotonic()
    with lock.hold(folder):
        assert "nonce" in (folder / "lock").read_text()
    assert time.monotonic() - started < 20.0


def test_an_owner_that_ends_while_another_watches_makes_way(folder):
    folder.mkdir()
    path = folder / "lock"
    path.write_text("{}")
    threading.Timer(0.3, path.unlink).start()
    started = time.monotonic()
    with lock.heartbeat_lock(path, beat=0.1, silence=60.0):
        assert time.monotonic() - started < 30.0
