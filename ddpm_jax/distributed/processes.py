"""Several processes as one run: how they start, and how one that is gone ends the others.

Where a peer has died a TPU waits for ever, and jax ends a process late and without saying who it was.
So every process leaves a heartbeat with the first one, and reads the others'.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import jax
from jax._src import clusters, distributed  # jax shows its store of keys and values nowhere else
from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm

from ddpm_jax.distributed import rendezvous

BEAT = 2.0  # seconds between two heartbeats
SILENCE = 40.0  # seconds without one after which a process is gone; jax's own limit is 100
BARRIER = 600.0  # seconds that a process waits for the others to come to the same place
KEYS = "ddpm_jax/process/"
RESTART = "start all processes again, and the run resumes from its last checkpoint"


class Peers(NamedTuple):
    """A heartbeat says 'beat', a number; 'at', the place; 'failed', the words, and 'status'."""

    process: int
    hosts: list[str]
    mine: dict[str, Any]  # the newest heartbeat
    theirs: dict[int, dict[str, Any]]


current_peers: list[Peers] = []  # a process has one set of peers, or none
c_callbacks: list = []  # what C calls must be kept by us


def start(
    coordinator: str, count: int, process: int, told: rendezvous.Settings, timeout: float
) -> None:
    """Joins this process to the others, before anything asks for devices.

    Without a coordinator the cluster is asked (Cloud TPU, GKE, SLURM, Open MPI), unless 'count' says 1;
    without one this is the only process. 'told' is what all processes must share. Raises
    ValueError for a half-told set-up or unlike processes, Absent naming who has not come.
    """
    devices = None
    if not coordinator and count == 0:
        coordinator, count, process, devices = detect_cluster(timeout)
    elif not coordinator and count == 1:
        return
    elif not coordinator or not 0 <= process < count:
        raise ValueError(
            "several processes need --coordinator=HOST:PORT of the first, --num_processes=N, and"
            f" --process_id from 0 to N - 1; there is {coordinator!r}, {count}, {process}"
        )
    if count <= 1:
        return
    hosts = rendezvous.meet(coordinator, process, count, told, timeout, slice_hosts())
    jax.distributed.initialize(coordinator, count, process, devices)
    current_peers.append(
        Peers(process, hosts, {"beat": 0, "at": "the start", "failed": "", "status": 1}, {})
    )
    if process != 0:
        report_abort(current_peers[0], f"process 0 on {hosts[0]} is gone; {RESTART}")
    threading.Thread(target=watch, args=(current_peers[0], time.monotonic), daemon=True).start()


def detect_cluster(timeout: float) -> tuple[str, int, int, list[int] | None]:
    """Coordinator, count, number and local devices as jax reads them off a cluster; a count of 1 outside one.

    Raises ValueError if a TPU machine does not tell.
    """
    environment = os.environ
    method = None
    if int(environment.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in environment:
        method = "slurm"
    elif int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        method = "ompi"
    elif running_in_cloud_tpu_vm and slice_hosts():
        method = "gketpu" if len(slice_hosts()) > 1 else None
    elif running_in_cloud_tpu_vm and "TPU_SKIP_MDS_QUERY" not in environment:
        method = "gcetpu"
    if method is None:
        return "", 1, 0, None
    try:
        unset = None, None, None, None
        return clusters.ClusterEnv.auto_detect_unset_distributed_params(
            *unset, method, int(timeout)
        )
    except Exception as error:
        raise ValueError(
            f"this machine looks like a part of a cluster ({method}) that does not tell which: {error};"
            " give --num_processes=1 if it is alone, else --coordinator, --num_processes, --process_id"
        ) from error


def slice_hosts() -> list[str]:
    """The hosts of a TPU slice where the environment names them."""
    names = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES") or ""
    return [name for name in names.split(",") if name]


def report_abort(peers: Peers, words: str) -> None:
    """Says who is gone where jax aborts this process: it does when the first process is."""
    text = f"ddpm_jax: {words}\n".encode()

    def handler(_):
        if not peers.mine["failed"]:  # else it has spoken, and the first has left because of it
            os.write(sys.stderr.fileno(), text)
        os._exit(peers.mine["status"])

    kept = ctypes.CFUNCTYPE(None, ctypes.c_int)(handler)
    c_callbacks.append(kept)
    # Not signal.signal: Python's handlers run later, and an abort has no later.
    ctypes.CDLL(None).signal(signal.SIGABRT, kept)


def watch(peers: Peers, clock) -> None:
    """Until the process ends: beats, and ends it when a peer has failed or is silent."""
    since = dict.fromkeys(range(len(peers.hosts)), clock())
    while True:
        with suppress(Exception):  # the first process is gone: jax is just ending this one
            beat(peers, since, clock())
        words = trouble(peers, since, clock())
        if words and not peers.mine["failed"]:
            print(f"ddpm_jax: {words}; {RESTART}", file=sys.stderr, flush=True)
            os._exit(1)  # what waits for a peer cannot be interrupted otherwise
        time.sleep(BEAT)


def beat(peers: Peers, since: dict[int, float], now: float) -> None:
    client = distributed.global_state.client
    if client is None:  # at its end
        return
    peers.mine["beat"] += 1
    client.key_value_set(f"{KEYS}{peers.process}", json.dumps(peers.mine), allow_overwrite=True)
    for key, text in client.key_value_dir_get(KEYS):
        number, value = int(key.rpartition("/")[2]), json.loads(text)
        if value != peers.theirs.get(number):
            peers.theirs[number], since[number] = value, now


def trouble(peers: Peers, since: Mapping[int, float], now: float) -> str:
    """Which other process has failed or is gone, in words, or ""."""
    for number, host in enumerate(peers.hosts):
        if number == peers.process:
            continue
        name, known = f"process {number} on {host}", peers.theirs.get(number, {})
        if known.get("failed"):
            return f"{name} failed: {known['failed']}"
        if now - since[number] > SILENCE and known.get("at") != "the end":
            return f"{name} is gone: it has been silent for {SILENCE:.0f} s"
    return ""


def report_place(place: str) -> None:
    """Tells the others, with the next heartbeat, how far this process has got."""
    if current_peers:
        current_peers[0].mine["at"] = place


def barrier(place: str, timeout: float = BARRIER) -> None:
    """Waits until every process has come to a place, each of which is met once.

    Raises Absent, naming those that have not.
    """
    if not current_peers:
        return
    report_place(place)
    try:
        client = distributed.global_state.client
        client.wait_at_barrier(f"ddpm_jax/{place}", int(1000 * timeout))
    except Exception as error:
        peers = current_peers[0]
        late = [
            f"process {number} on {host} (at {peers.theirs.get(number, {}).get('at', 'the start')})"
            for number, host in enumerate(peers.hosts)
            if number != peers.process and peers.theirs.get(number, {}).get("at") != place
        ]
        who = ", ".join(late) or f"somebody ({error})"
        raise rendezvous.Absent(f"after {timeout:.0f} s at {place}, {who} has not come") from error


def finish() -> None:
    """Tells the others, if there are any, that this process is done and will fall silent."""
    report_place("the end")


def fail(error: BaseException, words: str, status: int) -> None:
    """Ends this process, having told the others why, if there are others.

    An error that came of a peer's death first waits for the watch to say whose.
    """
    if not current_peers:
        return
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
        time.sleep(SILENCE + 3 * BEAT)
    current_peers[0].mine.update(failed=words, status=status)
    print(f"ddpm_jax: {words}", file=sys.stderr, flush=True)
    time.sleep(3 * BEAT)  # the others hear of it, also if it is the first that keeps the heartbeats
    os._exit(status)
