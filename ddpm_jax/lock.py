"""One writer a folder: two processes that write one run would ruin it.

On a disk the operating system's lock, which goes with its process however that ends. Buckets have
none: there the owner's heartbeat in a file, watched for a while to see whether its owner lives.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from etils import epath

from ddpm_jax import parallel, report

BEAT = 15.0  # seconds between two heartbeats
SILENCE = 60.0  # seconds without one after which an owner is dead


class InUse(ValueError):
    """Another process is at work in the folder."""


def owner() -> dict:
    """Who we are, in words that help to find us."""
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": started}


@contextmanager
def held(folder: epath.Path) -> Iterator[None]:
    """Keeps the folder, made if it is not there, to this process, or to it and
    those it leads. Raises InUse, naming the owner.
    """
    if not parallel.first_process():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    with by_system(path) or by_heartbeat(path):
        yield


def by_system(path: epath.Path) -> IO | None:
    """The open, locked file, or None where there are no such locks.

    The file stays when the lock goes: deleting it would race with the next owner.
    """
    if "://" in str(path):
        return None
    file = open(path, "a+")  # noqa: SIM115  (closing it gives up the lock)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise in_use(path, file.read()) from error
    except OSError:  # some network drives
        file.close()
        return None
    file.truncate(0)
    file.write(json.dumps(owner()) + "\n")
    file.flush()
    return file


@contextmanager
def by_heartbeat(path: epath.Path, beat: float = BEAT, silence: float = SILENCE) -> Iterator[None]:
    """No clocks are compared, only whether the file changes while it is watched."""
    seen = path.read_text() if path.exists() else None
    if seen is not None:
        report.say(f"{path} is there; watching for {silence:.0f} s whether its owner lives")
        deadline = time.monotonic() + silence
        while time.monotonic() < deadline and path.exists():
            time.sleep(beat / 3)
            if path.exists() and path.read_text() != seen:
                raise in_use(path, seen)
    me, stop = owner(), threading.Event()

    def keep_beating():
        count = 0
        while not stop.is_set():
            path.write_text(json.dumps(me | {"beats": (count := count + 1)}) + "\n")
            stop.wait(beat)

    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)


def in_use(path: epath.Path, written: str) -> InUse:
    try:
        by = "process {pid} on {host}, since {since}".format(**json.loads(written))
    except (ValueError, KeyError):  # its owner is just writing it
        by = "another process"
    return InUse(f"{path.parent} is in use by {by}; stop that one, or take another --workdir")
