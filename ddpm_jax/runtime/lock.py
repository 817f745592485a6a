"""One writer a folder: two processes that write one run would ruin it.

On a disk the operating system's lock, which goes with its process however that ends. Buckets have
none: there the owner's heartbeat in a file, watched for a while to see whether its owner lives.
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
SILENCE = 60.0  # seconds without one after which an owner is dead
end_process = os._exit  # not sys.exit: a thread calls it


class InUse(ValueError):
    """Another process is at work in the folder."""


def owner() -> dict:
    """Who we are, in words that help to find us."""
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": started}


@contextmanager
def hold(folder: epath.Path) -> Iterator[None]:
    """Keeps the folder, made if it is not there, to this process and those it leads.

    Raises InUse, naming the owner.
    """
    if not mesh.is_first_process():
        yield
        return
    path = folder / "lock"
    with system_lock(path) or heartbeat_lock(path):
        yield


@contextmanager
def wait_for(folder: epath.Path) -> Iterator[None]:
    """Keeps the folder to this process alone; who comes meanwhile waits for its turn."""
    path, told = folder / "lock", False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(system_lock(path) or heartbeat_lock(path))
                break
            except InUse as error:
                if not told:
                    console.say(f"{str(error).partition(';')[0]}; waiting for that one")
                told = True
            signals.check("while it waited")
            time.sleep(1.0)
        yield


def system_lock(path: epath.Path) -> IO | None:
    """The open, locked file, or None where there are no such locks."""
    if "://" in str(path):
        return None
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+")  # noqa: SIM115  (closing it gives up the lock)
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
        file.close()  # its last owner has deleted it meanwhile
    file.truncate(0)
    file.write(json.dumps(owner()) + "\n")
    file.flush()
    return file


@contextmanager
def heartbeat_lock(
    path: epath.Path, beat: float = BEAT, silence: float = SILENCE
) -> Iterator[None]:
    """No clocks are compared, only whether the file changes while it is watched."""
    watch(path, beat, silence)
    me, stop = owner() | {"nonce": secrets.token_hex(8)}, threading.Event()

    def write(count: int) -> None:
        path.write_text(json.dumps(me | {"beats": count}) + "\n")

    def ours() -> bool:
        return f'"{me["nonce"]}"' in read_text(path)

    def keep_beating():
        for count in itertools.count(1):
            if stop.wait(beat):
                return
            with suppress(Exception):  # a bucket that cannot be reached now may be at the next beat
                if read_text(path) and not ours():
                    end_process(exit_as_lost(path))
                    return
                write(count)

    write(0)
    time.sleep(min(beat, 2.0))  # of several that begin together the last to write is the owner
    if not ours():
        raise in_use_error(path, read_text(path))
    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if ours():
            path.unlink(missing_ok=True)


def watch(path: epath.Path, beat: float, silence: float) -> None:
    """Returns when the file has been silent, or gone; raises InUse when its owner lives."""
    seen = read_text(path)
    if not seen:
        return
    console.say(f"{path} is there; watching for {silence:.0f} s whether its owner lives")
    deadline = time.monotonic() + silence
    while time.monotonic() < deadline and (now := read_text(path)):
        signals.check("before anything was begun")
        if now != seen:
            raise in_use_error(path, now)
        time.sleep(beat / 3)


def read_text(path: epath.Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def exit_as_lost(path: epath.Path) -> int:
    """Says that another has taken over, while this one was suspended, say; the exit status."""
    print(f"ddpm_jax: {in_use_error(path, read_text(path))}", file=sys.stderr, flush=True)
    return 1


def in_use_error(path: epath.Path, written: str) -> InUse:
    try:
        by = "process {pid} on {host}, since {since}".format(**json.loads(written))
    except (ValueError, KeyError):  # its owner is just writing it
        by = "another process"
    return InUse(f"{path.parent} is in use by {by}; stop that one, or take another --workdir")
