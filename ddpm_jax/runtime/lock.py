"""A lock on a folder: two processes that write one run would ruin it.

On a disk it is the operating system's lock, which is released however its process ends. A bucket has
no such locks. There the owner writes a heartbeat to a file, and others watch it to see if it lives.
"""

import fcntl
import itertools
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

from etils import epath

from ddpm_jax.distributed import mesh
from ddpm_jax.runtime import console, signals

BEAT = 15.0  # seconds between two heartbeats
SILENCE = 60.0  # seconds without a heartbeat after which the owner counts as dead
end_process = os._exit  # not sys.exit, which would end only the thread that calls it


class InUse(ValueError):
    """Another process holds the folder's lock."""


def owner() -> dict:
    """Returns what identifies this process to a user."""
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": started}


@contextmanager
def hold(folder: epath.Path) -> Iterator[None]:
    """Locks the folder, which is created if missing, for this run's processes.

    Raises InUse, with the owner, if another process holds the lock.
    """
    if not mesh.is_first_process():
        yield
        return
    path = folder / "lock"
    with system_lock(path) or heartbeat_lock(path):
        yield


@contextmanager
def wait_for(folder: epath.Path) -> Iterator[None]:
    """Locks the folder for this process alone, and waits while another process holds the lock."""
    path, announced = folder / "lock", False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(system_lock(path) or heartbeat_lock(path))
                break
            except InUse as error:
                if not announced:
                    console.say(f"{str(error).partition(';')[0]}; waiting for it to finish")
                announced = True
            signals.check("while waiting for the lock")
            time.sleep(1.0)
        yield


def system_lock(path: epath.Path) -> IO | None:
    """Returns the open, locked file, or None if the file system has no locks. Raises InUse."""
    if "://" in str(path):
        return None
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+")  # noqa: SIM115  (closing it releases the lock)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise in_use_error(path, file.read()) from error
        except OSError:  # some network drives
            file.close()
            return None
        if path.exists() and os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            break
        file.close()  # its previous owner has deleted it in the meantime
    file.truncate(0)
    file.write(json.dumps(owner()) + "\n")
    file.flush()
    return file


@contextmanager
def heartbeat_lock(
    path: epath.Path, beat: float = BEAT, silence: float = SILENCE
) -> Iterator[None]:
    """Holds the lock by a heartbeat. Clocks are not compared; all that matters is that the file changes.

    'beat' and 'silence' are in seconds. Raises InUse if another owner is alive.
    """
    watch(path, beat, silence)
    me, stop = owner() | {"nonce": secrets.token_hex(8)}, threading.Event()

    def write(count: int) -> None:
        path.write_text(json.dumps(me | {"beats": count}) + "\n")

    def is_owned() -> bool:
        return f'"{me["nonce"]}"' in read_text(path)

    def keep_beating():
        for count in itertools.count(1):
            if stop.wait(beat):
                return
            with suppress(Exception):  # an unreachable bucket may be back at the next beat
                if read_text(path) and not is_owned():
                    end_process(report_loss(path))
                    return
                write(count)

    write(0)
    time.sleep(min(beat, 2.0))  # if several start at the same time, the last to write is the owner
    if not is_owned():
        raise in_use_error(path, read_text(path))
    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if is_owned():
            path.unlink(missing_ok=True)


def watch(path: epath.Path, beat: float, silence: float) -> None:
    """Returns once the file is gone or has not changed for 'silence' s. Raises InUse if it changes."""
    before = read_text(path)
    if not before:
        return
    console.say(f"{path} exists; watching it for {silence:.0f} s to see whether its owner is alive")
    deadline = time.monotonic() + silence
    while time.monotonic() < deadline and (now := read_text(path)):
        signals.check("before anything was started")
        if now != before:
            raise in_use_error(path, now)
        time.sleep(beat / 3)


def read_text(path: epath.Path) -> str:
    """Returns the content of a file, "" if it does not exist."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def report_loss(path: epath.Path) -> int:
    """Prints that another process took the lock, e.g. while this one was suspended; returns the status."""
    print(
        f"ddpm_jax: lost the lock: {in_use_error(path, read_text(path))}",
        file=sys.stderr,
        flush=True,
    )
    return 1


def in_use_error(path: epath.Path, content: str) -> InUse:
    """Returns the error for a lock file with this content."""
    try:
        user = "process {pid} on {host}, since {since}".format(**json.loads(content))
    except (ValueError, KeyError):  # its owner is in the middle of writing it
        user = "another process"
    return InUse(f"{path.parent} is in use by {user}; stop that one, or choose another --workdir")
