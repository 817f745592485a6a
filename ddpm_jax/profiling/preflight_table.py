"""The table of --mode=preflight: what its JSON holds, for reading."""

import shlex
from collections.abc import Iterator
from typing import Any

GIB = 1 << 30


def flag(overrides: dict[str, Any]) -> str:
    """Fields of the config as they are typed."""
    written = (
        f"--config.{field}={str(value).replace(' ', '')}" for field, value in overrides.items()
    )
    return " ".join(map(shlex.quote, written))


def number(value: float | int | None, unit: str = "") -> str:
    """Three digits and a prefix: 569.8 G."""
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


def collectives(found: dict[str, dict[str, int]] | None) -> str:
    if not found:
        return "-" if found is None else "none"
    each = (f"{of['count']} {kind} {number(of['bytes'], 'B')}" for kind, of in found.items())
    return ", ".join(each)


def fits(found: dict[str, Any]) -> str:
    return {True: "yes", False: "no", None: "-"}[found["fits"]]


def rows(made: dict[str, Any]) -> dict[str, Any]:
    """Each a name, and how the number beside it is written."""
    clock = f" at {made['clock_ghz']} GHz" if made["clock_ghz"] else ""
    memory = f" of {gib(made['memory_bytes'])}" if made["memory_bytes"] else ""
    return {
        "fits": fits,
        f"peak memory{memory}": lambda found: gib(found["peak_bytes"]),
        "  arguments": lambda found: gib(found["argument_bytes"]),
        "  temporaries": lambda found: gib(found["temporary_bytes"]),
        "FLOPs": lambda found: number(found["flops"]),
        "bytes accessed": lambda found: number(found["bytes_accessed"], "B"),
        "cycles": lambda found: number(found["estimated_cycles"]),
        f"time by cycles{clock}": lambda found: seconds(found["estimated_seconds"]),
        "time by XLA's cost model": lambda found: seconds(found["optimal_seconds"]),
        "steps/s by cycles": lambda found: number(found["steps_per_second"]),
        "kernels not counted": lambda found: str(found["custom_calls"]),
        "collectives": lambda found: collectives(found["collectives"]),
    }


def table(made: dict[str, Any]) -> Iterator[str]:
    """The lines of it, and what follows from it."""
    sampling = made["sampling"]
    heads = (f"train step, {made['batch_size']}", f"sampling step, {made['sampling_batch_size']}")
    yield f"{'a device':32}{heads[0]:28}{heads[1]}"
    for name, written in rows(made).items():
        yield f"{name:32}{written(made):28}{written(sampling)}"
    yield f"estimates: {made['estimates']}; optimisation level {made['optimization_level']}"
    for found, what in ((made, "training"), (sampling, "sampling")):
        if found["loop_bodies_counted_once"]:
            yield f"{what}: in FLOPs and bytes a loop is one turn of it"
        if found["custom_calls"]:
            yield f"{what}: the cycles of {found['custom_calls']} kernels are not counted"
    yield verdict(made)
    if sampling["fits"] is False:
        yield f"sampling does not fit ({sampling['why']}); lower sample.batch_size"


def verdict(made: dict[str, Any]) -> str:
    where = f"{made['config']} at batch {made['batch_size']}"
    if made["fits"]:
        return f"{where} fits {made['topology']}"
    with_ = made["fits_with"]
    hope = f"fits with {with_}" if with_ else "nothing that was tried makes it fit"
    return f"{where} does not fit {made['topology']} ({made['why']}); {hope}"
