"""What a compiled program says of itself: memory, FLOPs, bytes, estimated cycles, collectives.

All are the compiler's own words, of one device, and estimates: good for comparing programs, and not
measured. Cycles are in the program's text, instruction by instruction, from the TPU compiler alone.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128, "token": 0}
KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
COLLECTIVE = re.compile(rf"= (.*?)\s({'|'.join(KINDS)})(-start)?\(")
ARRAY = re.compile(r"\b([a-z]+[0-9]*[a-z0-9]*)\[([0-9,]*)\]")
CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
CALLED = re.compile(r" (?:calls|to_apply|body)=%?([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')


NOTHING = dict.fromkeys(  # of a program that there is not
    ("argument_bytes", "temporary_bytes", "peak_bytes", "flops", "bytes_accessed")
    + ("optimal_seconds", "estimated_cycles", "estimated_seconds", "steps_per_second")
    + ("custom_calls", "loop_bodies_counted_once", "collectives")
)


class Collective(NamedTuple):
    count: int
    bytes: int  # of its results, on one device


class Line(NamedTuple):
    """An instruction, how often it runs, and whether it is a part of a fused one."""

    text: str
    times: int
    fused: bool


def computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The instructions of each computation by its name, and the name of the one that is entered."""
    found, entry, lines = {}, "", []
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
            lines = found.setdefault(name, [])
            entry = name if line.startswith("ENTRY ") else entry
        elif line.startswith(" "):
            lines.append(line)
    return found, entry


def running(text: str) -> list[Line]:
    """Every instruction that running the program runs; a loop of unknown length counts as one turn."""
    bodies, entry = computations(text)

    def walk(name: str, times: int, fused: bool) -> Iterator[Line]:
        for line in bodies.get(name, ()):
            yield Line(line, times, fused)
            inside = fused or " fusion(" in line
            turns = times * (trips(line, bodies) if " while(" in line else 1)
            for called in CALLED.findall(line):
                yield from walk(called, turns, inside)
            for names in BRANCHES.findall(line) if " conditional(" in line else ():
                for called in re.findall(r"[\w.-]+", names[0]) or [names[1]]:
                    yield from walk(called, times, inside)

    return list(walk(entry, 1, False))


def trips(line: str, bodies: dict[str, list[str]]) -> int:
    """How often a loop turns: its own word, else the one constant its condition compares with, else 1."""
    known = TRIPS.search(line)
    if known:
        return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", line)
    lines = bodies.get(condition[1], []) if condition else []
    limits = [
        m[1] for m in (re.search(r"= s32\[\][^ ]* constant\((\d+)\)", at) for at in lines) if m
    ]
    less = any("direction=LT" in at for at in lines)
    return int(limits[0]) if less and len(limits) == 1 else 1


def cycles(lines: Sequence[Line]) -> int | None:
    """The sum of the estimates of what is run, or None where there are none."""
    found = [
        int(match[1]) * line.times
        for line in lines
        if not line.fused and (match := CYCLES.search(line.text))
    ]
    return sum(found) if found else None


def loops(lines: Sequence[Line]) -> bool:
    """Whether something is run more often than XLA's counts of FLOPs and bytes, once each, have it."""
    return any(line.times > 1 for line in lines)


def collectives(lines: Sequence[Line]) -> dict[str, Collective]:
    """By kind: how many are run, and the bytes of their results."""
    found: dict[str, Collective] = {}
    for line in lines:
        match = COLLECTIVE.search(line.text) if any(kind in line.text for kind in KINDS) else None
        if match:
            shapes, kind, begun = match.groups()
            size = size_of(shapes) if not (begun and kind != "all-reduce") else result_of(shapes)
            before = found.get(kind, Collective(0, 0))
            found[kind] = Collective(before.count + line.times, before.bytes + line.times * size)
    return found


def size_of(shapes: str) -> int:
    """Bytes of an array or a tuple of them, as the text writes them."""
    sizes = (
        math.prod(map(int, re.findall(r"\d+", dims))) * bits(kind) for kind, dims in arrays(shapes)
    )
    return sum(math.ceil(size / 8) for size in sizes)


def arrays(shapes: str) -> list[tuple[str, str]]:
    return ARRAY.findall(re.sub(r"\{[^{}]*\}|/\*.*?\*/", "", shapes))


def result_of(shapes: str) -> int:
    """Of a begun gather: a tuple of its operands and its results, then perhaps some of its own."""
    found = [f"{kind}[{dims}]" for kind, dims in arrays(shapes) if kind != "u32" or dims]
    return size_of(" ".join(found[len(found) // 2 :]))


def bits(kind: str) -> int:
    if kind in BITS:
        return BITS[kind]
    number = re.match(r"[a-z]+(\d+)", kind)
    return int(number[1]) if number else 0


def custom_calls(text: str) -> int:
    """Kernels of the compiler's or ours, whose cost it does not estimate."""
    return text.count('custom_call_target="tpu_custom_call"')


def why(error: Exception) -> str:
    """What is too large, out of the compiler's pages about it."""
    text = " ".join(str(error).split())
    used = re.search(r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm", text)
    used = used or re.search(r"\(([\d.]+[KMGT]?)\) exceeds available HBM \(([\d.]+[KMGT]?)\)", text)
    return f"needs {used[1]} of {used[2]}" if used else text[:200]


def memory(program: Any) -> dict[str, int]:
    """Bytes of one device: arguments, what is made on the way, and the most there is at any time."""
    said = program.memory_analysis()
    arguments, temporaries = said.argument_size_in_bytes, said.temp_size_in_bytes
    rest = said.output_size_in_bytes - said.alias_size_in_bytes
    peak = getattr(said, "peak_memory_in_bytes", 0)
    if peak < temporaries:  # not said, or, on CPUs, without them: what it can be at most
        peak = arguments + temporaries + rest
    return {"argument_bytes": arguments, "temporary_bytes": temporaries, "peak_bytes": peak}


def summary(program: Any) -> dict[str, Any]:
    """Everything above of a program that jax has compiled; None where the compiler does not say."""
    text, cost = program.as_text(), program.cost_analysis() or {}
    calls, lines = custom_calls(text), running(text)
    seconds = cost.get("optimal_seconds", 0.0)
    return memory(program) | {
        "flops": cost.get("flops"),
        "bytes_accessed": cost.get("bytes accessed"),
        # Where there are custom calls XLA's number is nonsense, a negative one even.
        "optimal_seconds": seconds if seconds > 0.0 and not calls else None,
        "estimated_cycles": cycles(lines),
        "custom_calls": calls,
        "loop_bodies_counted_once": loops(lines),
        "collectives": {kind: of._asdict() for kind, of in sorted(collectives(lines).items())},
    }
