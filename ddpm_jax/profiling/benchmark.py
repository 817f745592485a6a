"""--mode=benchmark: how fast a run's parts are on the devices there are, each alone, then together.

Weights are random. The train step and the sampling step need no data set; the input pipeline and
training end to end read it. Each is compiled, warmed up, then timed for some seconds, unit by unit.
"""

import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache, partial
from itertools import islice, repeat

import jax
import numpy as np
from clu import parameter_overview
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.config import build
from ddpm_jax.datasets import batches as data_batches
from ddpm_jax.datasets import source
from ddpm_jax.distributed import mesh
from ddpm_jax.profiling import (
    compiler_report,
    hardware,
    preflight,
    preflight_table,
    timing,
    topology,
)
from ddpm_jax.profiling.timing import Facts
from ddpm_jax.run import model
from ddpm_jax.run import sampling as drawing
from ddpm_jax.run import state as states
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files, signals

LATE = 700_000  # a step to resume at, whose batch should come as soon as that of step 0
WIDTHS = 24, 10, 10, 28, 12, 9, 0  # of the table's columns
ALL = "all"
WITHOUT_DATA = ("train_step", "sampling_step")
PARTS = (*WITHOUT_DATA, "input_pipeline", "end_to_end")


def compile_(run: Run, step: Callable[[Run], jax.stages.Lowered]) -> tuple[Callable, Facts]:
    """A program of the run's, how long it took to make, and what the compiler says of it."""
    since = time.perf_counter()
    program = step(run).compile()
    took = {"compile_seconds": time.perf_counter() - since}
    said = compiler_report.summary(program)
    kept = ("flops", "bytes_accessed", "peak_bytes", "loop_bodies_counted_once")
    return program, took | {name: said[name] for name in kept}


def with_share(run: Run, facts: Facts) -> Facts:
    """And the share of a device's peak FLOP/s, where both are known."""
    peak = hardware.peak_flops(run.mesh.devices.flat[0].device_kind)
    known = peak and facts["flops"] and not facts["loop_bodies_counted_once"]
    return facts | {"of_peak": facts["flops"] / facts["seconds"] / peak if known else None}


def training(run: Run) -> tuple[Callable[[Iterable, int], None], Facts]:
    """Takes so many steps, each of the next batch, from random weights on; and what is said of one."""
    program, facts = compile_(run, preflight.train_step)
    state = jax.jit(lambda: states.initial(run), out_shardings=states.shardings(run))()

    def take(batches: Iterable, steps: int) -> None:
        nonlocal state
        for batch in islice(batches, steps):
            state = program(state, batch)
        jax.block_until_ready(state)

    return take, facts


def train_step(run: Run, take: Callable[[Iterable, int], None], facts: Facts) -> Facts:
    """Of one batch, which is on the devices already."""
    size = run.train.batch_size
    shape = size // jax.process_count(), *run.model.shape
    local = np.random.default_rng(run.seed).integers(0, run.model.levels, shape).astype(np.uint8)
    labels = np.zeros(len(local), np.int32) if run.model.unet.classes else None
    batch = mesh.put(run.mesh, source.Batch(local, labels))
    found = timing.timed(partial(take, repeat(batch)))
    return with_share(run, {"batch_size": size} | found.facts(size) | facts)


def sampling(run: Run) -> tuple[Callable[[int], None], Facts]:
    """Takes so many turns of the loop for a whole batch, with random weights; and what is said of one."""
    program, facts = compile_(run, preflight.sampling_step)
    begin = drawing.make_program(run.model, run.sample.chain).begin
    keys = drawing.image_keys(run, run.sample.seed, 0, run.sample.batch_size)
    state = jax.jit(begin, out_shardings=mesh.by_image(run.mesh))(keys)
    initial = partial(model.initial, run.model, jax.random.key(run.seed))
    params = jax.jit(initial, out_shardings=mesh.replicated(run.mesh))()
    params = drawing.given(run, params, run.sample.chain, np.arange(run.sample.batch_size))

    def take(steps: int) -> None:
        nonlocal state
        state = jax.block_until_ready(program(params, keys, state, 0, steps))

    return take, facts


def sampling_step(run: Run) -> Facts:
    """The images/s are those of a whole chain."""
    take, facts = sampling(run)
    chain, size = run.sample.chain, run.sample.batch_size
    steps = len(chain.times) - 1
    found = timing.timed(take, steps)
    about = {"batch_size": size, "chain": chain.name, "chain_steps": steps}
    return with_share(run, about | found.facts(size / steps) | facts)


def batches(run: Run, source: source.Source, first: int) -> Iterator[source.Batch]:
    size, labels = run.train.batch_size, run.model.unet.classes > 0
    return data_batches.batches(
        source, run.seed, size, mesh.rows(size), first, timing.ENDLESS, labels
    )


def input_pipeline(run: Run, source: source.Source, load_seconds: float) -> Facts:
    """Batches alone, with nothing that uses them, and how soon the first of them comes."""
    began: dict[int, list[float]] = {0: [], LATE: []}
    for first in (0, LATE) * 3:
        data_batches.permutation.cache_clear()
        since = time.perf_counter()
        with closing(batches(run, source, first)) as some:
            next(some)
            began[first].append(time.perf_counter() - since)
    with closing(batches(run, source, 0)) as some:
        found = timing.timed(lambda steps: deque(islice(some, steps), maxlen=0))
    size = run.train.batch_size
    firsts = {str(first): statistics.median(seconds) for first, seconds in began.items()}
    about = {"batch_size": size, "images": source.count, "load_seconds": load_seconds}
    in_memory = isinstance(source.records, np.ndarray)
    return about | {"in_memory": in_memory, "first_batch_seconds": firsts} | found.facts(size)


def end_to_end(run: Run, take: Callable[[Iterable, int], None], source: source.Source) -> Facts:
    """Training as --mode=train does it, but for logs, grids and checkpoints."""
    size = run.train.batch_size
    with closing(batches(run, source, 0)) as some:
        found = timing.timed(partial(take, map(partial(mesh.put, run.mesh), some)))
    return {"batch_size": size} | found.facts(size)


def loaded(run: Run) -> tuple[source.Source, float]:
    """The training images, in memory where they fit, and the seconds that took."""
    since = time.perf_counter()
    source = data_batches.loaded(run.data.open(run.data.split))
    return source, time.perf_counter() - since


def chosen(names: Sequence[str]) -> list[str]:
    """The parts of --benchmark. Raises ValueError for a name that is none."""
    for name in names or ("",):
        if name not in (*PARTS, ALL):
            raise ValueError(f"--benchmark: {name!r} is none; {files.nearest(name, [*PARTS, ALL])}")
    return [name for name in PARTS if name in names or ALL in names]


def build_for(config: ConfigDict, directory: epath.Path, names: Sequence[str]) -> Run:
    """The run; of images that need not be there, where no part that reads them is wanted."""
    if set(chosen(names)) <= set(WITHOUT_DATA):
        return preflight.build_for(config, directory, topology.LOCAL)
    return build.run(config, directory)


def measured(run: Run, names: Sequence[str]) -> Iterator[tuple[str, Facts]]:
    """Part after part. Raises Stopped between two of them if asked to."""
    train, source = cache(partial(training, run)), cache(partial(loaded, run))
    parts = {
        "train_step": lambda: train_step(run, *train()),
        "sampling_step": lambda: sampling_step(run),
        "input_pipeline": lambda: input_pipeline(run, *source()),
        "end_to_end": lambda: end_to_end(run, train()[0], source()[0]),
    }
    for name in names:
        yield name, parts[name]()
        if signals.agreed():
            raise signals.Stopped(f"stopped by {signals.asked()}; nothing was written")


def about(run: Run, config_name: str) -> Facts:
    device = run.mesh.devices.flat[0]
    return {
        "config": config_name,
        "device": device.device_kind,
        "devices": run.mesh.size,
        "processes": jax.process_count(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],  # whether others were at work
        "parameters": int(parameter_overview.count_parameters(states.abstract(run).params)),
        "dtype": run.model.unet.dtype.__name__,
        "peak_flops": hardware.peak_flops(device.device_kind),
        "layout": run.layout._asdict() | {"mesh": run.mesh.size},
        "versions": {"jax": jax.__version__, "compiler": device.client.platform_version},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "compilation_cache": bool(jax.config.jax_compilation_cache_dir),
    }


def line(name: str, facts: Facts) -> str:
    """A row of the table."""
    middle, *ends = (f"{1e3 * seconds:.4g}" for seconds in (facts["seconds"], *facts["quartiles"]))
    share, took = facts.get("of_peak"), facts.get("compile_seconds")
    cells = (
        f"{name.replace('_', ' ')}, {facts['batch_size']}",
        f"{facts['steps_per_second']:.4g}",
        f"{facts['images_per_second']:.4g}",
        f"{middle} ({'-'.join(ends)})",
        preflight_table.number(facts.get("flops")),
        "-" if share is None else f"{share:.1%}",
        "-" if took is None else f"{took:.1f} s",
    )
    return row(*cells)


def row(*cells: str) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))


def benchmark(run: Run, names: Sequence[str], config_name: str) -> None:
    """Says what was measured, and leaves it in benchmark/<device kind>-<devices>.json."""
    made = about(run, config_name)
    console.say(
        f"{config_name} on {run.mesh.size} {made['device']} device(s),"
        f" {made['parameters']:,} parameters, {made['dtype']}"
    )
    console.say(
        row(
            "part, batch",
            "steps/s",
            "images/s",
            "ms a step (quartiles)",
            "FLOPs",
            "of peak",
            "compiled in",
        )
    )
    for name, facts in measured(run, chosen(names)):
        made[name] = facts
        console.say(line(name, facts))
    name = f"{files.in_file_name(made['device'])}-{run.mesh.size}.json"
    path = run.directory / "benchmark" / name
    files.write_json(path, made)
    console.say(f"benchmark  {path}")
