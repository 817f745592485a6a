"""--mode=preflight: compiles a run's programs for a TPU, without one, to see whether they fit.

All numbers are the compiler's estimates, for comparing programs. Nothing is run, so that no data set
and no checkpoint is needed. If training does not fit, preflight searches for overrides with which it
does.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from clu import parameter_overview
from etils import epath
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from ddpm_jax.config import build, data
from ddpm_jax.datasets import source
from ddpm_jax.distributed import mesh
from ddpm_jax.profiling import compiler_report, hardware, whole_run
from ddpm_jax.profiling import topology as topologies
from ddpm_jax.profiling.preflight_table import flag, gib, table
from ddpm_jax.run import model, sampling, state
from ddpm_jax.run import record as records
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files
from ddpm_jax.training import train

ESTIMATES = "the compiler's own, for one device; nothing was run or measured"
Overrides = dict[str, Any]  # values of config fields, by their dotted names
Report = dict[str, Any]  # a program's part of preflight/<topology>.json


def build_run(
    config: ConfigDict, directory: epath.Path, topology: str | None, trust: bool = False
) -> Run:
    """Builds the run on a topology's devices, without opening its data set.

    Rounds the batch sizes of sampling and evaluation up to multiples of the device count. Raises
    ValueError as build.run does, and for an unknown topology or a missing compiler.
    """
    sections = config.to_dict()
    build.check_sections(sections, directory, trust)
    name = topology or topologies.LOCAL
    devices = None if name == topologies.LOCAL else topologies.devices(name)
    data_set = data.data_source(sections["data"])
    stored = records.read_binding(directory, sections)
    image_kind = build.stored_image_kind(stored) if stored else data_set.declared()
    count = sections["parallel"].get("devices") or len(devices or jax.devices())
    for field, size in round_up_batches(sections, count).items():
        section, key = field.split(".")
        before = sections[section][key]
        console.say(f"{field} {before} -> {size}, a multiple of the {count} devices")
        sections = replace_fields(sections, {field: size})
    return build.run(
        ConfigDict(sections), directory, devices=devices, image_kind=image_kind, trust=trust
    )


def round_up_batches(sections: dict, devices: int) -> Overrides:
    """Returns the batch sizes of sampling and evaluation that must be raised to multiples of 'devices'."""
    overrides = {}
    for section in ("sample", "eval"):
        size = sections[section].get("batch_size")
        if type(size) is type(devices) is int and min(size, devices) > 0 and size % devices:
            overrides[f"{section}.batch_size"] = -(-size // devices) * devices
    return overrides


def replace_fields(sections: dict, overrides: Overrides) -> dict:
    """Returns a copy of a config with other values of some fields."""
    copy = {
        name: dict(section) if isinstance(section, dict) else section
        for name, section in sections.items()
    }
    for field, value in overrides.items():
        section, name = field.split(".")
        copy[section][name] = value
    return copy


def apply_overrides(run: Run, overrides: Overrides) -> Run | None:
    """Returns the run with other values of some fields, or None if they are invalid."""
    config = ConfigDict(replace_fields(run.config, overrides))
    devices, image_kind = list(run.mesh.devices.flat), (run.model.shape, run.model.levels)
    try:
        return build.run(
            config, run.directory, devices=devices, image_kind=image_kind, trust=run.trust
        )
    except ValueError:
        return None


def train_step(run: Run) -> jax.stages.Lowered:
    """Lowers the train step."""
    size = run.train.batch_size
    images = abstract_batch(run, (size, *run.model.shape), jnp.uint8)
    labels = abstract_batch(run, (size,), jnp.int32) if run.model.network.classes else None
    batch = source.Batch(images=images, labels=labels)
    return train.compiled_step(run).lower(state.abstract(run), batch)


def abstract_batch(run: Run, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """Returns a ShapeDtypeStruct, which stands for an array whose first axis is sharded."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.batch_sharding(run.mesh))


def sampling_step(run: Run) -> jax.stages.Lowered:
    """Lowers one step of the sampling loop, for sample.batch_size images."""
    replicated, by_image = mesh.replicated_sharding(run.mesh), mesh.batch_sharding(run.mesh)

    def place(tree: Any, sharding: jax.sharding.Sharding) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    chain = run.sample.chain
    program = sampling.make_program(run.model, chain)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), run.sample.batch_size))
    params = jax.eval_shape(lambda: model.initial(run.model, jax.random.key(0)))
    state = place(jax.eval_shape(program.begin, keys), by_image)
    params = place(params, replicated)
    if sampling.class_count(run.model, chain):
        guide = chain.guide and place(chain.guide.params, replicated)
        labels = abstract_batch(run, (run.sample.batch_size,), jnp.int32)
        params = sampling.ProgramInputs(params=params, labels=labels, guide=guide)
    return program.compiled.lower(params, place(keys, by_image), state, 0, 1)


def compile_report(run: Run, step: Callable[[Run], jax.stages.Lowered]) -> Report:
    """Returns the compiler's report of a program, with its estimated time, or why it does not fit."""
    kind = run.mesh.devices.flat[0].device_kind
    memory, clock = hardware.memory(kind), getattr(hardware.CHIPS.get(kind), "clock", None)
    try:
        report = compiler_report.summary(step(run).compile())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return compiler_report.EMPTY | {
            "fits": False,
            "clock_ghz": clock,
            "why": compiler_report.shorten(error),
        }
    cycles = report["estimated_cycles"]
    seconds = cycles / (clock * 1e9) if cycles and clock else None
    fits = memory is None or report["peak_bytes"] <= memory
    why = {} if fits else {"why": f"needs {gib(report['peak_bytes'])} of {gib(memory)}"}
    rate = 1.0 / seconds if seconds else None
    times = {"clock_ghz": clock, "estimated_seconds": seconds, "steps_per_second": rate}
    return {"fits": fits} | why | report | times


class Remedy(NamedTuple):
    """Overrides with which training fits, and the report of it."""

    overrides: Overrides
    report: Report


def candidate_overrides(run: Run) -> Iterator[Overrides]:
    """Yields overrides that may make training fit, the cheapest first, a smaller batch last."""
    size, devices = run.train.batch_size, run.mesh.size
    height, levels = run.model.shape[0], len(getattr(run.model.network, "multipliers", ()))
    heights = [height // 2**i for i in range(levels)]
    if devices > 1 and run.layout.params != "fsdp":
        yield {"parallel.params": "fsdp"}
    parts = 2 * run.layout.accumulation
    while size // run.train.clip_groups % parts == 0 and size // parts % devices == 0:
        yield {"parallel.accumulation": parts}
        parts *= 2
    for count in (1, levels):
        if set(heights[:count]) - set(run.layout.remat):
            yield {"parallel.remat": tuple(heights[:count])}
    if records.read_binding(run.directory, run.config):
        return  # a stored run keeps its batch size
    while size % (2 * devices) == 0:
        size //= 2
        yield {"train.batch_size": size}


def find_remedy(run: Run) -> Remedy | None:
    """Compiles training with each candidate in turn; returns the first with which it fits, or None."""
    for overrides in candidate_overrides(run):
        other = apply_overrides(run, overrides)
        if other is None:
            continue
        report = compile_report(other, train_step)
        console.say(f"  with {flag(overrides)}: {'fits' if report['fits'] else report.get('why')}")
        if report["fits"]:
            return Remedy(overrides, report)
    return None


def check(run: Run, topology: str | None) -> None:
    """Raises ValueError for classifier guidance, as preflight opens no other run."""
    if run.sample.classifier:
        raise ValueError("--mode=preflight compiles no classifier; leave out sample.classifier")


def preflight(run: Run, topology: str | None) -> None:
    """Prints the compiler's report of the run's programs and writes preflight/<topology>.json."""
    name = topology or topologies.LOCAL
    path = run.directory / "preflight" / f"{topologies.file_stem(name)}.json"
    report = describe(run, name)
    console.say(
        f"compiling {run.name} for {name}: {run.mesh.size} {report['device']} device(s),"
        f" {report['parameters']:,} parameters, batch {run.train.batch_size}"
    )
    report |= compile_report(run, train_step)
    remedy = None if report["fits"] else find_remedy(run)
    report["fits_with"] = remedy and flag(remedy.overrides)
    if remedy:
        report["then"] = remedy.report
    if run.model.classifies:  # no samples are drawn from it
        report["sampling"] = compiler_report.EMPTY | {"fits": None, "clock_ghz": None}
    else:
        report["sampling"] = compile_report(run, sampling_step)
    report["whole_run"] = whole_run.estimates(run, report)
    files.write_json(path, report)
    for line in table(report):
        console.say(line)
    console.say(f"preflight  {path}")


def describe(run: Run, topology: str) -> Report:
    """Returns facts about the run, the topology and the compiler, for the report."""
    device = run.mesh.devices.flat[0]
    params = state.abstract(run).params
    level = str(getattr(jax.config, "jax_optimization_level", None))
    return {
        "config": run.name,
        "topology": topology,
        "device": device.device_kind,
        "memory_bytes": hardware.memory(device.device_kind),
        "parameters": int(parameter_overview.count_parameters(params)),
        "batch_size": run.train.batch_size,
        "sampling_batch_size": run.sample.batch_size,
        "dtype": jnp.dtype(run.model.network.dtype).name,
        "layout": run.layout._asdict() | {"mesh": run.mesh.size},
        "versions": {
            "jax": jax.__version__,
            "libtpu": topologies.libtpu_version(),
            "compiler": " ".join(device.client.platform_version.split()),
        },
        "optimization_level": "default" if level in ("None", "UNKNOWN") else level,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "estimates": ESTIMATES,
    }
