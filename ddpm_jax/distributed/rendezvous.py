"""How the processes of a run meet: all call the first one, and hear from it who is there.

It comes before jax's own start-up, which waits too, but ends a process without a word about who is
missing, and before anything is compiled, so that processes with unlike configs are told so.
"""

import json
import socket
import time
from contextlib import suppress
from typing import Any, NamedTuple

Settings = dict[str, Any]
PATIENCE = 10.0  # seconds that one end of a connection waits for the other's line
RETRY = 0.5  # seconds between two calls to a process that is not there yet


class Absent(TimeoutError):
    """Some of the run's processes have not come."""


class Call(NamedTuple):
    """What a process says of itself."""

    process: int
    host: str
    told: Settings  # must be the same for all


def meet(
    address: str, process: int, processes: int, told: Settings, timeout: float, expected: list[str]
) -> list[str]:
    """The hosts of all processes, in their order, once all have called the first, at HOST:PORT.

    'expected' are the hosts' names where a cluster tells them, or none. Raises Absent, naming
    who is missing after 'timeout' seconds, and ValueError, naming the difference, if the processes
    were not all told the same.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout
    mine = Call(process, socket.gethostname(), told)
    if process == 0:
        answer = lead(int(port), mine, processes, deadline, expected)
    else:
        answer = follow((host.strip("[]"), int(port)), mine, deadline)
    if "missing" in answer:
        raise Absent(f"after {timeout:.0f} s {answer['missing']}; start all of them again")
    if "refused" in answer:
        raise ValueError(answer["refused"])
    return answer["hosts"]


def lead(port: int, mine: Call, processes: int, deadline: float, expected: list[str]) -> dict:
    """Hears everybody, decides, and tells them all the same."""
    calls, lines = {0: mine}, {}
    with open_server(port, deadline) as server:
        while missing_processes(calls, processes) and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            with suppress(OSError, ValueError, TypeError):  # a stranger, or who has gone again
                line, _ = server.accept()
                line.settimeout(PATIENCE)
                call = Call(**json.loads(read_line(line)))
                calls[call.process], lines[call.process] = call, line
        answer = decide(calls, processes, expected)
        for line in lines.values():
            with suppress(OSError):
                line.sendall(json.dumps(answer).encode() + b"\n")
                line.recv(1)  # its end first: who closes first keeps the port busy for a while
                line.close()
    return answer


def open_server(port: int, deadline: float) -> socket.socket:
    """A server on the port, as soon as a process of the run before has left it."""
    while True:
        try:
            return socket.create_server(("", port))
        except OSError as error:
            if time.monotonic() > deadline:
                raise Absent(f"port {port} cannot be had: {error}") from error
            time.sleep(RETRY)


def follow(address: tuple[str, int], mine: Call, deadline: float) -> dict:
    """Calls until the first process answers; a line that breaks is called again."""
    message = json.dumps(mine._asdict()).encode() + b"\n"
    while (left := deadline - time.monotonic()) > 0:
        with suppress(OSError, ValueError), socket.create_connection(address, PATIENCE) as line:
            line.sendall(message)
            line.settimeout(left + PATIENCE)  # the first tells at its own deadline who is missing
            return json.loads(read_line(line))
        time.sleep(RETRY)
    return {"missing": f"process 0 at {address[0]}:{address[1]} cannot be reached"}


def read_line(line: socket.socket) -> str:
    """One line. Raises ValueError if it ends before it is whole."""
    with line.makefile() as file:
        text = file.readline(1 << 20)
    if not text.endswith("\n"):
        raise ValueError("cut off")
    return text


def missing_processes(calls: dict[int, Call], processes: int) -> list[int]:
    return [number for number in range(processes) if number not in calls]


def decide(calls: dict[int, Call], processes: int, expected: list[str]) -> dict:
    """Who is missing, or what differs, or else everybody's host."""
    for number, call in sorted(calls.items()):
        for name in sorted(calls[0].told.keys() | call.told.keys()):
            first, other = calls[0].told.get(name), call.told.get(name)
            if first != other:
                found = f"process {number} on {call.host} was started with {name} {other!r}"
                return {"refused": f"{found}, the first on {calls[0].host} with {first!r}"}
    missing = missing_processes(calls, processes)
    if missing:
        names = ", ".join(describe(number, expected, processes) for number in missing)
        return {"missing": f"of {processes} processes {names} cannot be heard"}
    return {"hosts": [calls[number].host for number in range(processes)]}


def describe(process: int, hosts: list[str], processes: int) -> str:
    return f"process {process}" + (f" on {hosts[process]}" if len(hosts) == processes else "")
