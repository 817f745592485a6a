"""The compiler's report of a program: memory, FLOPs, bytes, estimated cycles, collectives.

All numbers are estimates for one device: they serve to compare programs, and nothing is measured. Only
the TPU compiler estimates cycles, which it writes at each instruction of the program's text.
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
CALLEES = re.compile(r" (?:calls|to_apply|body)=%?([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')

EMPTY = dict.fromkeys(  # the report of a program that does not exist
    ("argument_bytes", "temporary_bytes", "peak_bytes", "flops", "bytes_accessed")
    + ("optimal_seconds", "estimated_cycles", "estimated_seconds", "steps_per_second")
    + ("custom_calls", "loop_bodies_counted_once", "collectives")
)


class Collective(NamedTuple):
    """The executed collectives of one kind."""

    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    bytes: int  # of the results, on one device


class Line(NamedTuple):
    """An instruction, how often it runs, and whether it is part of a fusion."""

    text: str
    times: int
    fused: bool


def computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Returns the instructions of each computation, by its name, and the entry computation's name."""
    bodies, entry, lines = {}, "", []
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
            lines = bodies.setdefault(name, [])
            entry = name if line.startswith("ENTRY ") else entry
        elif line.startswith(" "):
            lines.append(line)
    return bodies, entry


def executed_lines(text: str) -> list[Line]:
    """Returns all instructions that a program executes, with one iteration for loops of unknown length."""
    bodies, entry = computations(text)

    def walk(name: str, times: int, fused: bool) -> Iterator[Line]:
        for line in bodies.get(name, ()):
            yield Line(line, times, fused)
            in_fusion = fused or " fusion(" in line
            repeats = times * (trip_count(line, bodies) if " while(" in line else 1)
            for callee in CALLEES.findall(line):
                yield from walk(callee, repeats, in_fusion)
            for names in BRANCHES.findall(line) if " conditional(" in line else ():
                for callee in re.findall(r"[\w.-]+", names[0]) or [names[1]]:
                    yield from walk(callee, times, in_fusion)

    return list(walk(entry, 1, False))


def trip_count(line: str, bodies: dict[str, list[str]]) -> int:
    """Returns a loop's known trip count, else the only constant in its condition, else 1."""
    known = TRIPS.search(line)
    if known:
        return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", line)
    lines = bodies.get(condition[1], []) if condition else []
    constants = (re.search(r"= s32\[\][^ ]* constant\((\d+)\)", line) for line in lines)
    limits = [constant[1] for constant in constants if constant]
    less = any("direction=LT" in line for line in lines)
    return int(limits[0]) if less and len(limits) == 1 else 1


def cycles(lines: Sequence[Line]) -> int | None:
    """Returns the sum of the executed instructions' estimates, or None without estimates."""
    estimates = [
        int(match[1]) * line.times
        for line in lines
        if not line.fused and (match := CYCLES.search(line.text))
    ]
    return sum(estimates) if estimates else None


def has_loops(lines: Sequence[Line]) -> bool:
    """Returns whether an instruction runs more than once, as XLA counts its FLOPs and bytes only once."""
    return any(line.times > 1 for line in lines)


def collectives(lines: Sequence[Line]) -> dict[str, Collective]:
    """Returns the number of executed collectives of each kind, and the bytes of their results."""
    totals: dict[str, Collective] = {}
    for line in lines:
        match = COLLECTIVE.search(line.text) if any(kind in line.text for kind in KINDS) else None
        if match:
            shapes, kind, start = match.groups()
            with_operands = start and kind != "all-reduce"
            size = result_bytes(shapes) if with_operands else total_bytes(shapes)
            total = totals.get(kind, Collective(0, 0))
            totals[kind] = Collective(total.count + line.times, total.bytes + line.times * size)
    return totals


def total_bytes(shapes: str) -> int:
    """Returns the bytes of an array or a tuple of arrays, from their shapes in the program's text."""
    sizes = (
        math.prod(map(int, re.findall(r"\d+", dims))) * bits(kind) for kind, dims in arrays(shapes)
    )
    return sum(math.ceil(size / 8) for size in sizes)


def arrays(shapes: str) -> list[tuple[str, str]]:
    """Returns dtype and dimensions of each array in the text of a shape."""
    return ARRAY.findall(re.sub(r"\{[^{}]*\}|/\*.*?\*/", "", shapes))


def result_bytes(shapes: str) -> int:
    """Returns the bytes of an asynchronous start's results; its tuple is operands, results, u32 scalars."""
    kept = [f"{kind}[{dims}]" for kind, dims in arrays(shapes) if kind != "u32" or dims]
    return total_bytes(" ".join(kept[len(kept) // 2 :]))


def bits(kind: str) -> int:
    """Returns the bits per element of a dtype as XLA writes it; 0 for an unknown one."""
    if kind in BITS:
        return BITS[kind]
    number = re.match(r"[a-z]+(\d+)", kind)
    return int(number[1]) if number else 0


def custom_calls(text: str) -> int:
    """Returns the number of custom kernels, the compiler's or ours, whose cost it does not estimate."""
    return text.count('custom_call_target="tpu_custom_call"')


def shorten(error: Exception) -> str:
    """Returns the memory that a program needs and has, from the compiler's error, else its beginning."""
    text = " ".join(str(error).split())
    used = re.search(r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm", text)
    used = used or re.search(r"\(([\d.]+[KMGT]?)\) exceeds available HBM \(([\d.]+[KMGT]?)\)", text)
    return f"needs {used[1]} of {used[2]}" if used else text[:200]


def memory(program: Any) -> dict[str, int]:
    """Returns the bytes of arguments and of temporaries on one device, and the peak."""
    stats = program.memory_analysis()
    arguments, temporaries = stats.argument_size_in_bytes, stats.temp_size_in_bytes
    outputs = stats.output_size_in_bytes - stats.alias_size_in_bytes
    peak = getattr(stats, "peak_memory_in_bytes", 0)
    if peak < temporaries:  # not reported, or, on CPUs, without the temporaries: an upper bound
        peak = arguments + temporaries + outputs
    return {"argument_bytes": arguments, "temporary_bytes": temporaries, "peak_bytes": peak}


def summary(program: Any) -> dict[str, Any]:
    """Returns the whole report of a compiled program, with None for what the compiler does not report."""
    text, cost = program.as_text(), program.cost_analysis() or {}
    calls, lines = custom_calls(text), executed_lines(text)
    seconds = cost.get("optimal_seconds", 0.0)
    return memory(program) | {
        "flops": cost.get("flops"),
        "bytes_accessed": cost.get("bytes accessed"),
        # With custom calls XLA's number is meaningless, sometimes negative.
        "optimal_seconds": seconds if seconds > 0.0 and not calls else None,
        "estimated_cycles": cycles(lines),
        "custom_calls": calls,
        "loop_bodies_counted_once": has_loops(lines),
        "collectives": {
            kind: total._asdict() for kind, total in sorted(collectives(lines).items())
        },
    }
