"""--mode=preflight: a run's programs, compiled for a TPU that need not be there. Does it fit?

What is said is what the compiler says, an estimate for comparing programs; nothing is run, so no
data set and no checkpoint is needed. Where training does not fit, what makes it fit is looked for.
"""

import os
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from clu import parameter_overview
from etils import epath
from ml_collections import ConfigDict

from ddpm_jax.config import build, data
from ddpm_jax.datasets import source
from ddpm_jax.distributed import mesh
from ddpm_jax.profiling import compiler_report, hardware, topology
from ddpm_jax.profiling.preflight_table import flag, gib, table
from ddpm_jax.run import model, sampling, state
from ddpm_jax.run import record as records
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console, files
from ddpm_jax.training import train

ESTIMATES = "the compiler's own, of one device; nothing was run or measured"
Overrides = dict[str, Any]  # fields of the config by their dotted names


def build_for(config: ConfigDict, directory: epath.Path, name: str) -> Run:
    """The run on a topology's devices, of images that need not be there.

    Batches that are no part of training are rounded up to what the devices can share. Raises
    ValueError as build.run does, and where a topology or its compiler is not to be had.
    """
    sections = config.to_dict()
    build.check_sections(sections)
    present = None if name == topology.LOCAL else topology.devices(name)
    chosen = data.of(sections["data"])
    record = records.stored(directory)
    of_images = build.images(chosen, directory) if record else chosen.declared()
    devices = sections["parallel"].get("devices") or len(present or jax.devices())
    for field, size in rounded(sections, devices).items():
        section, at = field.split(".")
        console.say(f"{field} {sections[section][at]} -> {size}: {devices} devices share it evenly")
        sections = with_fields(sections, {field: size})
    return build.run(ConfigDict(sections), directory, present, of_images)


def rounded(sections: dict, devices: int) -> Overrides:
    """Batches of sampling and evaluation as multiples of the devices, where they are none."""
    changed = {}
    for section in ("sample", "eval"):
        size = sections[section].get("batch_size")
        if type(size) is type(devices) is int and min(size, devices) > 0 and size % devices:
            changed[f"{section}.batch_size"] = -(-size // devices) * devices
    return changed


def with_fields(sections: dict, overrides: Overrides) -> dict:
    changed = {name: dict(s) if isinstance(s, dict) else s for name, s in sections.items()}
    for field, value in overrides.items():
        section, name = field.split(".")
        changed[section][name] = value
    return changed


def changed(run: Run, overrides: Overrides) -> Run | None:
    """The same run but for these fields, or None if the config does not allow them."""
    config = ConfigDict(with_fields(run.config, overrides))
    present, of_images = list(run.mesh.devices.flat), (run.model.shape, run.model.levels)
    try:
        return build.run(config, run.directory, present, of_images)
    except ValueError:
        return None


def train_step(run: Run) -> jax.stages.Lowered:
    size, spread = run.train.batch_size, mesh.by_image(run.mesh)
    images = jax.ShapeDtypeStruct((size, *run.model.shape), jnp.uint8, sharding=spread)
    batch = source.Batch(images, labels(run, size) if run.model.unet.classes else None)
    return train.compiled_step(run).lower(state.abstract(run), batch)


def labels(run: Run, size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size,), jnp.int32, sharding=mesh.by_image(run.mesh))


def sampling_step(run: Run) -> jax.stages.Lowered:
    """One turn of the sampling loop, of a batch of sample.batch_size."""
    whole, spread = mesh.replicated(run.mesh), mesh.by_image(run.mesh)

    def placed(tree: Any, sharding: jax.sharding.Sharding) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    chain = run.sample.chain
    program = sampling.make_program(run.model, chain)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), run.sample.batch_size))
    params = jax.eval_shape(lambda: model.initial(run.model, jax.random.key(0)))
    state = placed(jax.eval_shape(program.begin, keys), spread)
    params = placed(params, whole)
    if sampling.number_of_classes(run.model, chain):
        guide = chain.guide and placed(chain.guide.params, whole)
        params = sampling.Given(params, labels(run, run.sample.batch_size), guide)
    return program.loop.lower(params, placed(keys, spread), state, 0, 1)


def tried(run: Run, step: Callable[[Run], jax.stages.Lowered]) -> dict[str, Any]:
    """What the compiler says of a program, with its time; or that it does not fit, and why."""
    kind = run.mesh.devices.flat[0].device_kind
    memory, clock = hardware.memory(kind), getattr(hardware.CHIPS.get(kind), "clock", None)
    try:
        found = compiler_report.summary(step(run).compile())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return compiler_report.NOTHING | {
            "fits": False,
            "clock_ghz": clock,
            "why": compiler_report.why(error),
        }
    cycles = found["estimated_cycles"]
    seconds = cycles / (clock * 1e9) if cycles and clock else None
    fits = memory is None or found["peak_bytes"] <= memory
    why = {} if fits else {"why": f"needs {gib(found['peak_bytes'])} of {gib(memory)}"}
    rate = 1.0 / seconds if seconds else None
    times = {"clock_ghz": clock, "estimated_seconds": seconds, "steps_per_second": rate}
    return {"fits": fits} | why | found | times


class Remedy(NamedTuple):
    overrides: Overrides
    found: dict[str, Any]


def knobs(run: Run) -> Iterator[Overrides]:
    """What may make training fit, one at a time: what costs least comes first, another batch last."""
    size, devices = run.train.batch_size, run.mesh.size
    height, levels = run.model.shape[0], len(run.model.unet.multipliers)
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
    while size % (2 * devices) == 0:
        size //= 2
        yield {"train.batch_size": size}


def remedy(run: Run) -> Remedy | None:
    """The first knob with which training fits, compiled one after another."""
    for overrides in knobs(run):
        other = changed(run, overrides)
        if other is None:
            continue
        found = tried(other, train_step)
        console.say(f"  with {flag(overrides)}: {'fits' if found['fits'] else found.get('why')}")
        if found["fits"]:
            return Remedy(overrides, found)
    return None


def check(run: Run) -> None:
    """Raises ValueError for samples that a classifier guides, as it is not opened here."""
    if run.sample.classifier:
        raise ValueError("--mode=preflight compiles no classifier; leave sample.classifier out")


def preflight(run: Run, name: str, config_name: str) -> None:
    """Says what the compiler says of the run's programs, and leaves it in preflight/<topology>.json."""
    path = run.directory / "preflight" / f"{topology.in_file_name(name)}.json"
    made = about(run, name, config_name)
    console.say(
        f"compiling {config_name} for {name}: {run.mesh.size} {made['device']} device(s),"
        f" {made['parameters']:,} parameters, batch {run.train.batch_size}"
    )
    found = tried(run, train_step)
    mended = None if found["fits"] else remedy(run)
    found["fits_with"] = mended and flag(mended.overrides)
    if mended:
        found["then"] = mended.found
    # Nothing is drawn from a classifier.
    none = compiler_report.NOTHING | {"fits": None, "clock_ghz": None}
    made |= found | {"sampling": none if run.model.classifies else tried(run, sampling_step)}
    files.write_json(path, made)
    for line in table(made):
        console.say(line)
    console.say(f"preflight  {path}")


def libtpu() -> str | None:
    """Its version, where it is installed as a package."""
    try:
        return metadata.version("libtpu")
    except metadata.PackageNotFoundError:
        return None


def about(run: Run, name: str, config_name: str) -> dict[str, Any]:
    """What was compiled, for what, and by what."""
    device = run.mesh.devices.flat[0]
    params = state.abstract(run).params
    level = str(getattr(jax.config, "jax_optimization_level", None))
    return {
        "config": config_name,
        "topology": name,
        "device": device.device_kind,
        "memory_bytes": hardware.memory(device.device_kind),
        "parameters": int(parameter_overview.count_parameters(params)),
        "batch_size": run.train.batch_size,
        "sampling_batch_size": run.sample.batch_size,
        "dtype": jnp.dtype(run.model.unet.dtype).name,
        "layout": run.layout._asdict() | {"mesh": run.mesh.size},
        "versions": {
            "jax": jax.__version__,
            "libtpu": libtpu(),
            "compiler": " ".join(device.client.platform_version.split()),
        },
        "optimization_level": "default" if level in ("None", "UNKNOWN") else level,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "estimates": ESTIMATES,
    }
