"""The processes of one run: how they start together, and how one that dies ends the others.

A TPU waits for ever for a dead peer, and jax ends a process late and without naming the peer. So every
process leaves a heartbeat in the first one's key-value store, and reads the others' there.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, cast

import jax
from jax._src import clusters, distributed  # there is no public way to jax's key-value store
from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm

from ddpm_jax.distributed import rendezvous

BEAT = 2.0  # seconds between two heartbeats
SILENCE = 40.0  # seconds without a heartbeat that mean a process is gone; jax's own limit is 100
BARRIER = 600.0  # seconds that a process waits at a barrier for the others
KEYS = "ddpm_jax/process/"
RESTART = "start all processes again, and the run resumes from its last checkpoint"


class Peers(NamedTuple):
    """The processes of a run, with their newest heartbeats.

    A heartbeat holds 'beat', a counter; 'at', the place in the program; and, if the process has failed,
    its message in 'failed' and its exit status in 'status'.
    """

    process: int
    hosts: list[str]
    mine: dict[str, Any]
    theirs: dict[int, dict[str, Any]]


current_peers: list[Peers] = []  # empty or one: a process belongs to one run
c_callbacks: list = []  # references that keep C's callbacks alive


def start(
    coordinator: str, count: int, process: int, settings: rendezvous.Settings, timeout: float
) -> None:
    """Joins this process to the others, before anything uses a device.

    Without a coordinator, and unless 'count' is 1, the cluster gives the processes (Cloud TPU, GKE, SLURM,
    Open MPI); outside a cluster this is the only one. 'settings' must be equal on all processes. Raises
    ValueError for an incomplete set of flags or unequal settings, and Absent naming missing processes.
    """
    devices = None
    if not coordinator and count == 0:
        coordinator, count, process, devices = detect_cluster(timeout)
    elif not coordinator and count == 1:
        return
    elif not coordinator or not 0 <= process < count:
        raise ValueError(
            "several processes need --coordinator=HOST:PORT of the first one, --num_processes=N and"
            f" --process_id from 0 to N - 1; got {coordinator!r}, {count} and {process}"
        )
    if count <= 1:
        return
    hosts = rendezvous.meet(coordinator, process, count, settings, timeout, slice_hosts())
    jax.distributed.initialize(coordinator, count, process, devices)
    heartbeat = {"beat": 0, "at": "the start", "failed": "", "status": 1}
    peers = Peers(process=process, hosts=hosts, mine=heartbeat, theirs={})
    current_peers.append(peers)
    if process != 0:
        report_abort(peers, f"process 0 on {hosts[0]} is gone; {RESTART}")
    threading.Thread(target=watch, args=(peers, time.monotonic), daemon=True).start()


Detected = tuple[str, int, int, list[int] | None]


def detect_cluster(timeout: float) -> Detected:
    """Returns coordinator, count, process and local devices as jax finds them; a count of 1 outside clusters.

    Raises ValueError if this machine's place in its cluster cannot be read.
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
        detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
        return cast(Detected, detect(*unset, method, int(timeout)))
    except Exception as error:
        raise ValueError(
            f"this machine seems to be part of a cluster ({method}), but its place there cannot be read:"
            f" {error}; give --num_processes=1 if it is alone, else --coordinator, --num_processes and"
            " --process_id"
        ) from error


def slice_hosts() -> list[str]:
    """Returns the hosts of a TPU slice if the environment names them."""
    names = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES") or ""
    return [name for name in names.split(",") if name]


def report_abort(peers: Peers, message: str) -> None:
    """Prints a message where jax aborts this process, as it does after the first process dies."""
    text = f"ddpm_jax: {message}\n".encode()

    def handler(_):
        if not peers.mine["failed"]:  # else it has printed why, and the first process left for that
            os.write(sys.stderr.fileno(), text)
        os._exit(peers.mine["status"])

    callback = ctypes.CFUNCTYPE(None, ctypes.c_int)(handler)
    c_callbacks.append(callback)
    # Not signal.signal: Python runs its handlers later, and an aborting process has no later.
    ctypes.CDLL(None).signal(signal.SIGABRT, callback)


def watch(peers: Peers, clock: Callable[[], float]) -> None:
    """Sends heartbeats until the process ends, and ends it when a peer has failed or is silent."""
    since = dict.fromkeys(range(len(peers.hosts)), clock())
    while True:
        with suppress(Exception):  # the first process is gone, and jax is about to end this one
            beat(peers, since, clock())
        fault = find_fault(peers, since, clock())
        if fault and not peers.mine["failed"]:
            print(f"ddpm_jax: {fault}; {RESTART}", file=sys.stderr, flush=True)
            os._exit(1)  # nothing else interrupts a thread that waits for a peer
        time.sleep(BEAT)


def beat(peers: Peers, since: dict[int, float], now: float) -> None:
    """Sends a heartbeat and reads the others'; 'since' is when each process's last one changed."""
    client = distributed.global_state.client
    if client is None:  # jax has shut down
        return
    peers.mine["beat"] += 1
    client.key_value_set(f"{KEYS}{peers.process}", json.dumps(peers.mine), allow_overwrite=True)
    for key, text in client.key_value_dir_get(KEYS):
        number, value = int(key.rpartition("/")[2]), json.loads(text)
        if value != peers.theirs.get(number):
            peers.theirs[number], since[number] = value, now


def find_fault(peers: Peers, since: Mapping[int, float], now: float) -> str:
    """Returns a message about a peer that has failed or is gone, or ""."""
    for number, host in enumerate(peers.hosts):
        if number == peers.process:
            continue
        name, known = f"process {number} on {host}", peers.theirs.get(number, {})
        if known.get("failed"):
            return f"{name} failed: {known['failed']}"
        if now - since[number] > SILENCE and known.get("at") != "the end":
            return f"{name} is gone: no heartbeat for {SILENCE:.0f} s"
    return ""


def report_place(place: str) -> None:
    """Sends, with the next heartbeat, how far this process has got."""
    if current_peers:
        current_peers[0].mine["at"] = place


def barrier(place: str, timeout: float = BARRIER) -> None:
    """Waits until every process has reached a place; each place occurs once in a run.

    Raises Absent, naming the processes that have not reached it after 'timeout' seconds.
    """
    if not current_peers:
        return
    report_place(place)
    try:
        client = distributed.global_state.client
        client.wait_at_barrier(f"ddpm_jax/{place}", int(1000 * timeout))  # pyright: ignore[reportOptionalMemberAccess]
    except Exception as error:
        peers = current_peers[0]
        late = [
            f"process {number} on {host} (at {peers.theirs.get(number, {}).get('at', 'the start')})"
            for number, host in enumerate(peers.hosts)
            if number != peers.process and peers.theirs.get(number, {}).get("at") != place
        ]
        names = ", ".join(late) or f"an unknown one ({error})"
        raise rendezvous.Absent(
            f"processes have not reached {place} after {timeout:.0f} s: {names}"
        ) from error


def share(place: str, value: float) -> float:
    """Returns the first process's value, on every process; each place occurs once in a run.

    The value comes from the key-value store, without a collective. Raises Absent if it does not come.
    """
    if not current_peers:
        return value
    client, key = distributed.global_state.client, f"ddpm_jax/value/{place}"
    if current_peers[0].process == 0:
        client.key_value_set(key, json.dumps(value))  # pyright: ignore[reportOptionalMemberAccess]
        return value
    try:
        return float(client.blocking_key_value_get(key, int(1000 * BARRIER)))  # pyright: ignore[reportOptionalMemberAccess]
    except Exception as error:
        raise rendezvous.Absent(
            f"process 0 has not reached {place} after {BARRIER:.0f} s: {error}"
        ) from error


def finish() -> None:
    """Marks this process as done, so that the others do not take its silence for a fault."""
    report_place("the end")


def fail(error: BaseException, message: str, status: int) -> None:
    """Sends the message to the other processes, prints it, and ends this one; does nothing without others.

    An error that a peer's death may have caused first waits for the watch to name the peer.
    """
    if not current_peers:
        return
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
        time.sleep(SILENCE + 3 * BEAT)
    current_peers[0].mine.update(failed=message, status=status)
    print(f"ddpm_jax: {message}", file=sys.stderr, flush=True)
    time.sleep(3 * BEAT)  # for the others to read it, even if this process keeps the heartbeats
    os._exit(status)
