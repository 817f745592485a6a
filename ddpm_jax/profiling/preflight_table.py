"""Formats the report of --mode=preflight as a table."""

import shlex
from collections.abc import Callable, Iterator
from typing import Any

from ddpm_jax.profiling import whole_run

GIB = 1 << 30
Json = dict[str, Any]


def flag(overrides: dict[str, Any]) -> str:
    """Returns the flags that set these fields of the config."""
    flags = (
        f"--config.{field}={str(value).replace(' ', '')}" for field, value in overrides.items()
    )
    return " ".join(map(shlex.quote, flags))


def number(value: float | int | None, unit: str = "") -> str:
    """Formats a number with four digits and a prefix: 569.8 G."""
    if value is None:
        return "-"
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}".strip()


def gib(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / GIB:.2f} GiB" if value >= GIB / 10 else f"{value / (1 << 20):.2f} MiB"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{1e3 * value:.4g} ms"


def collectives(counts: Json | None) -> str:
    if not counts:
        return "-" if counts is None else "none"
    return ", ".join(
        f"{total['count']} {kind} {number(total['bytes'], 'B')}" for kind, total in counts.items()
    )


def fits(report: Json, memory: int | None) -> str:
    if report["fits"] and memory is None:
        return "-"  # unknown
    return {True: "yes", False: "no", None: "-"}[report["fits"]]


def rows(report: Json) -> dict[str, Callable[[Json], str]]:
    """Returns, by the label of each row, the function that formats its cell from a program's report."""
    clock = f" at {report['clock_ghz']} GHz" if report["clock_ghz"] else ""
    memory = f" of {gib(report['memory_bytes'])}" if report["memory_bytes"] else ""
    return {
        "fits": lambda program: fits(program, report["memory_bytes"]),
        f"peak memory{memory}": lambda program: gib(program["peak_bytes"]),
        "  arguments": lambda program: gib(program["argument_bytes"]),
        "  temporaries": lambda program: gib(program["temporary_bytes"]),
        "FLOPs": lambda program: number(program["flops"]),
        "bytes accessed": lambda program: number(program["bytes_accessed"], "B"),
        "cycles": lambda program: number(program["estimated_cycles"]),
        f"time by cycles{clock}": lambda program: seconds(program["estimated_seconds"]),
        "time by XLA's cost model": lambda program: seconds(program["optimal_seconds"]),
        "steps/s by cycles": lambda program: number(program["steps_per_second"]),
        "kernels not counted": lambda program: str(program["custom_calls"]),
        "collectives": lambda program: collectives(program["collectives"]),
    }


def table(report: Json) -> Iterator[str]:
    """Yields the lines of the table, then warnings and the verdict."""
    sampling = report["sampling"]
    train_head = f"train step, {report['batch_size']}"
    yield f"{'per device':32}{train_head:28}sampling step, {report['sampling_batch_size']}"
    for label, cell in rows(report).items():
        cells = cell(report), cell(sampling)
        if cells != ("-", "-"):
            yield f"{label:32}{cells[0]:28}{cells[1]}"
    if report["estimated_cycles"] is None and report["optimal_seconds"] is None and report["fits"]:
        yield f"no times: the compiler for {report['device']} estimates none; --mode=benchmark measures them"
    yield f"estimates: {report['estimates']}; optimisation level {report['optimization_level']}"
    for program, name in ((report, "training"), (sampling, "sampling")):
        if program["loop_bodies_counted_once"]:
            yield f"{name}: FLOPs and bytes count one iteration of each loop"
        if program["custom_calls"]:
            yield f"{name}: the cycles of {program['custom_calls']} kernels are not counted"
    for method, facts in report["whole_run"].items():
        yield whole_run.describe(facts, method)
    yield verdict(report)
    if sampling["fits"] is False:
        yield f"sampling does not fit ({sampling['why']}); lower sample.batch_size"


def verdict(report: Json) -> str:
    """Returns a sentence: whether training fits, and if not, the flags with which it does."""
    subject = f"{report['config']} at batch {report['batch_size']}"
    if report["fits"] and report["memory_bytes"] is None:
        return (
            f"{subject} compiles for {report['topology']} and needs {gib(report['peak_bytes'])} a"
            f" device; how much memory a {report['device']} device has is unknown"
        )
    if report["fits"]:
        return f"{subject} fits {report['topology']}"
    flags = report["fits_with"]
    remedy = f"fits with {flags}" if flags else "it fits with none of the remedies tried"
    return f"{subject} does not fit {report['topology']} ({report['why']}); {remedy}"
