"""--mode=benchmark: times parts of a run on this machine's devices, each alone, then training as a whole.

Weights are random. The train step and the sampling step need no data set; the input pipeline and
end-to-end training read it. Each part is compiled, warmed up, then timed for some seconds in units.
"""

import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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
from ddpm_jax.datasets import source as sources
from ddpm_jax.distributed import mesh
from ddpm_jax.profiling import (
    benchmark_table,
    compiler_report,
    hardware,
    preflight,
    timing,
    topology,
    whole_run,
)
from ddpm_jax.profiling.timing import Facts
from ddpm_jax.run import model
from ddpm_jax.run import sampling as drawing
from ddpm_jax.run import state as states
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files, signals

LATE = 700_000  # a step to resume at; its batch should take no longer than that of step 0
ALL = "all"
WITHOUT_DATA = ("train_step", "sampling_step")
PARTS = (*WITHOUT_DATA, "input_pipeline", "end_to_end")
TrainSteps = Callable[[Iterable, int], None]  # takes batches and the number of steps
SamplingSteps = Callable[[int], None]


def compile_program(run: Run, lower: Callable[[Run], jax.stages.Lowered]) -> tuple[Callable, Facts]:
    """Compiles a program of the run; returns it with its compile time and the compiler's report."""
    start = time.perf_counter()
    program = lower(run).compile()
    facts = {"compile_seconds": time.perf_counter() - start}
    report = compiler_report.summary(program)
    names = ("flops", "bytes_accessed", "peak_bytes", "loop_bodies_counted_once")
    return program, facts | {name: report[name] for name in names}


def add_peak_share(run: Run, facts: Facts) -> Facts:
    """Adds the share of a device's peak FLOP/s that is used, or None if either is unknown."""
    peak = hardware.peak_flops(run.mesh.devices.flat[0].device_kind)
    known = peak and facts["flops"] and not facts["loop_bodies_counted_once"]
    return facts | {"of_peak": facts["flops"] / facts["seconds"] / peak if known else None}


def training(run: Run) -> tuple[TrainSteps, Facts]:
    """Compiles the train step; returns a function that runs it from random weights, and its facts."""
    program, facts = compile_program(run, preflight.train_step)
    state = jax.jit(lambda: states.initial(run), out_shardings=states.shardings(run))()

    def run_steps(batches: Iterable, steps: int) -> None:
        nonlocal state
        for batch in islice(batches, steps):
            state = program(state, batch)
        jax.block_until_ready(state)

    return run_steps, facts


def train_step(run: Run, run_steps: TrainSteps, facts: Facts) -> Facts:
    """Times the train step on one batch that is already on the devices."""
    size = run.train.batch_size
    shape = size // jax.process_count(), *run.model.shape
    local = np.random.default_rng(run.seed).integers(0, run.model.levels, shape).astype(np.uint8)
    labels = np.zeros(len(local), np.int32) if run.model.network.classes else None
    batch = mesh.put(run.mesh, sources.Batch(local, labels))
    result = timing.measure(partial(run_steps, repeat(batch)))
    return add_peak_share(run, {"batch_size": size} | result.facts(size) | facts)


def sampling(run: Run) -> tuple[SamplingSteps, Facts]:
    """Compiles the sampling step; returns a function that runs it with random weights, and its facts."""
    program, facts = compile_program(run, preflight.sampling_step)
    begin = drawing.make_program(run.model, run.sample.chain).begin
    keys = drawing.image_keys(run, run.sample.seed, np.arange(run.sample.batch_size))
    state = jax.jit(begin, out_shardings=mesh.batch_sharding(run.mesh))(keys)
    initial = partial(model.initial, run.model, jax.random.key(run.seed))
    params = jax.jit(initial, out_shardings=mesh.replicated_sharding(run.mesh))()
    params = drawing.program_inputs(run, params, run.sample.chain, np.arange(run.sample.batch_size))

    def run_steps(steps: int) -> None:
        nonlocal state
        state = jax.block_until_ready(program(params, keys, state, 0, steps))

    return run_steps, facts


def sampling_step(run: Run) -> Facts:
    """Times the sampling step; its images/s are those of the whole chain."""
    run_steps, facts = sampling(run)
    chain, size = run.sample.chain, run.sample.batch_size
    steps = len(chain.times) - 1
    result = timing.measure(run_steps, steps)
    settings = {"batch_size": size, "chain": chain.name, "chain_steps": steps}
    return add_peak_share(run, settings | result.facts(size / steps) | facts)


def batches(run: Run, source: sources.Source, first: int) -> Generator[sources.Batch, None, None]:
    """Returns this process's training batches from step 'first' on."""
    size, labels = run.train.batch_size, run.model.network.classes > 0
    return data_batches.batches(
        source, run.seed, size, mesh.local_rows(size), first, timing.ENDLESS, labels
    )


def input_pipeline(run: Run, source: sources.Source, load_seconds: float) -> Facts:
    """Times batches without training, and the delay of the first batch at two steps."""
    delays: dict[int, list[float]] = {0: [], LATE: []}
    for first in (0, LATE) * 3:
        data_batches.permutation.cache_clear()
        start = time.perf_counter()
        with closing(batches(run, source, first)) as stream:
            next(stream)
            delays[first].append(time.perf_counter() - start)
    with closing(batches(run, source, 0)) as stream:
        result = timing.measure(lambda steps: deque(islice(stream, steps), maxlen=0))
    size = run.train.batch_size
    settings = {
        "batch_size": size,
        "images": source.count,
        "load_seconds": load_seconds,
        "in_memory": isinstance(source.records, np.ndarray),
        "first_batch_seconds": {
            str(step): statistics.median(seconds) for step, seconds in delays.items()
        },
    }
    return settings | result.facts(size)


def end_to_end(run: Run, run_steps: TrainSteps, source: sources.Source) -> Facts:
    """Times training as --mode=train does it, without logs, grids and checkpoints."""
    size = run.train.batch_size
    with closing(batches(run, source, 0)) as stream:
        result = timing.measure(partial(run_steps, map(partial(mesh.put, run.mesh), stream)))
    return {"batch_size": size} | result.facts(size)


def load(run: Run) -> tuple[sources.Source, float]:
    """Returns the training images, in memory if they fit, and the seconds that loading took."""
    start = time.perf_counter()
    source = data_batches.load(run.data.open(run.data.split))
    return source, time.perf_counter() - start


def choose(names: Sequence[str]) -> list[str]:
    """Returns the parts that --benchmark names. Raises ValueError for an unknown one."""
    for name in names or ("",):
        if name not in (*PARTS, ALL):
            hint = files.suggest(name, [*PARTS, ALL])
            raise ValueError(f"--benchmark: unknown part {name!r}; {hint}")
    return [name for name in PARTS if name in names or ALL in names]


def build_run(
    config: ConfigDict, directory: epath.Path, benchmark: Sequence[str], trust: bool = False
) -> Run:
    """Builds the run, without opening its data set if no chosen part reads it."""
    if set(choose(benchmark)) <= set(WITHOUT_DATA):
        return preflight.build_run(config, directory, topology.LOCAL, trust)
    return build.run(config, directory, trust=trust)


def measure(run: Run, names: Sequence[str]) -> Iterator[tuple[str, Facts]]:
    """Yields each part's name and facts. Raises Stopped between two parts after a signal."""
    train, source = cache(partial(training, run)), cache(partial(load, run))
    parts = {
        "train_step": lambda: train_step(run, *train()),
        "sampling_step": lambda: sampling_step(run),
        "input_pipeline": lambda: input_pipeline(run, *source()),
        "end_to_end": lambda: end_to_end(run, train()[0], source()[0]),
    }
    for name in names:
        yield name, parts[name]()
        if signals.agree_to_stop():
            raise signals.Stopped(f"stopped by {signals.signal_name()}; nothing was written")


def describe(run: Run) -> Facts:
    """Returns facts about the run and the machine, for the report."""
    device = run.mesh.devices.flat[0]
    return {
        "config": run.name,
        "device": device.device_kind,
        "devices": run.mesh.size,
        "processes": jax.process_count(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],  # high if the machine does other work
        "parameters": int(parameter_overview.count_parameters(states.abstract(run).params)),
        "dtype": run.model.network.dtype.__name__,
        "peak_flops": hardware.peak_flops(device.device_kind),
        "layout": run.layout._asdict() | {"mesh": run.mesh.size},
        "versions": {"jax": jax.__version__, "compiler": device.client.platform_version},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "compilation_cache": bool(jax.config.jax_compilation_cache_dir),  # pyright: ignore[reportAttributeAccessIssue]
    }


def benchmark(run: Run, benchmark: Sequence[str]) -> None:
    """Prints the measurements and writes them to benchmark/<device kind>-<devices>.json."""
    report = describe(run)
    console.say(
        f"{run.name} on {run.mesh.size} {report['device']} device(s),"
        f" {report['parameters']:,} parameters, {report['dtype']}"
    )
    console.say(benchmark_table.head())
    for name, facts in measure(run, choose(benchmark)):
        report[name] = facts
        console.say(benchmark_table.row(name, facts))
    if trained := report.get("end_to_end", report.get("train_step")):
        sampled = report.get("sampling_step", {}).get("seconds")
        report["whole_run"] = whole_run.facts(run, trained["seconds"], sampled)
        console.say(whole_run.describe(report["whole_run"]))
    file_name = f"{files.file_name_part(report['device'])}-{run.mesh.size}.json"
    path = run.directory / "benchmark" / file_name
    files.write_json(path, report)
    console.say(f"benchmark  {path}")
