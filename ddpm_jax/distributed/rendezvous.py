"""The rendezvous of a run's processes: all call the first one, which answers who is there.

It precedes jax's own start-up, which also waits but ends a process without naming the missing ones, and
any compilation, so that processes with different configs fail at once.
"""

import json
import socket
import time
from contextlib import suppress
from typing import Any, NamedTuple

Settings = dict[str, Any]
PATIENCE = 10.0  # seconds that one end of a connection waits for the other
RETRY = 0.5  # seconds between two attempts


class Absent(TimeoutError):
    """Some of the run's processes are missing."""


class Call(NamedTuple):
    """The message that each process sends to the first one."""

    process: int
    host: str
    settings: Settings  # must be equal on all processes


def meet(
    address: str,
    process: int,
    processes: int,
    settings: Settings,
    timeout: float,
    hosts: list[str],
) -> list[str]:
    """Returns the hosts of all processes, in their order, once all have called the first at HOST:PORT.

    'hosts' names them in advance where a cluster lists them, or is empty. Raises Absent, naming the
    processes that are missing after 'timeout' seconds, and ValueError, naming the first difference, if
    their settings are not equal.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout
    mine = Call(process, socket.gethostname(), settings)
    if process == 0:
        answer = lead(int(port), mine, processes, deadline, hosts)
    else:
        answer = follow((host.strip("[]"), int(port)), mine, deadline)
    if "missing" in answer:
        raise Absent(f"after {timeout:.0f} s, {answer['missing']}; start all of them again")
    if "refused" in answer:
        raise ValueError(answer["refused"])
    return answer["hosts"]


def lead(port: int, mine: Call, processes: int, deadline: float, hosts: list[str]) -> dict:
    """Collects the calls of all processes until the deadline, and sends them all one answer."""
    calls, lines = {0: mine}, {}
    with open_server(port, deadline) as server:
        while missing_processes(calls, processes) and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            with suppress(OSError, ValueError, TypeError):  # not one of ours, or no longer there
                line, _ = server.accept()
                line.settimeout(PATIENCE)
                call = Call(**json.loads(read_line(line)))
                calls[call.process], lines[call.process] = call, line
        answer = decide(calls, processes, hosts)
        for line in lines.values():
            with suppress(OSError):
                line.sendall(json.dumps(answer).encode() + b"\n")
                # The end that closes first keeps the port busy for a while; let it be the other's.
                line.recv(1)
                line.close()
    return answer


def open_server(port: int, deadline: float) -> socket.socket:
    """Opens a server on the port, waiting for a process of an earlier run to release it."""
    while True:
        try:
            return socket.create_server(("", port))
        except OSError as error:
            if time.monotonic() > deadline:
                raise Absent(f"port {port} cannot be opened: {error}") from error
            time.sleep(RETRY)


def follow(address: tuple[str, int], mine: Call, deadline: float) -> dict:
    """Calls the first process until it answers; calls again if a connection breaks."""
    message = json.dumps(mine._asdict()).encode() + b"\n"
    while (left := deadline - time.monotonic()) > 0:
        with suppress(OSError, ValueError), socket.create_connection(address, PATIENCE) as line:
            line.sendall(message)
            line.settimeout(left + PATIENCE)  # the first process answers by its own deadline
            return json.loads(read_line(line))
        time.sleep(RETRY)
    return {"missing": f"process 0 at {address[0]}:{address[1]} cannot be reached"}


def read_line(line: socket.socket) -> str:
    """Reads one line. Raises ValueError if it is cut off."""
    with line.makefile() as file:
        text = file.readline(1 << 20)
    if not text.endswith("\n"):
        raise ValueError("cut off")
    return text


def missing_processes(calls: dict[int, Call], processes: int) -> list[int]:
    return [number for number in range(processes) if number not in calls]


def decide(calls: dict[int, Call], processes: int, hosts: list[str]) -> dict:
    """Returns the answer to all: the first difference, the missing processes, or every host."""
    for number, call in sorted(calls.items()):
        for name in sorted(calls[0].settings.keys() | call.settings.keys()):
            first, other = calls[0].settings.get(name), call.settings.get(name)
            if first != other:
                difference = f"process {number} on {call.host} was started with {name} {other!r}"
                return {"refused": f"{difference}, the first on {calls[0].host} with {first!r}"}
    missing = missing_processes(calls, processes)
    if missing:
        names = ", ".join(describe(number, hosts, processes) for number in missing)
        return {"missing": f"{len(missing)} of {processes} processes did not connect: {names}"}
    return {"hosts": [calls[number].host for number in range(processes)]}


def describe(process: int, hosts: list[str], processes: int) -> str:
    return f"process {process}" + (f" on {hosts[process]}" if len(hosts) == processes else "")
