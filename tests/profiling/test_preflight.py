"""What a compiled program says, and whether a run is told to fit. The slow ones use the TPU's own compiler."""

import importlib.util
import json
import os
import sys

import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT, load
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec
from support.command import TINY, ddpm, ddpm_process

from ddpm_jax.distributed import mesh as meshes
from ddpm_jax.profiling import compiler_report, hardware, preflight, preflight_table, topology
from ddpm_jax.run import record

HLO = """HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8,4]{1,0})->f32[8,4]{1,0}}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused (p: f32[64]) -> f32[8] {
  %p = f32[64]{0:T(256)} parameter(0)
  %all = f32[64]{0:T(256)} all-reduce(%p), to_apply=%add, backend_config={"estimated_cycles":"1000"}
  ROOT %own = f32[8]{0} reduce-scatter(%all), dimensions={0}, to_apply=%add
}

%body (s: (s32[], bf16[3,3])) -> (s32[], bf16[3,3]) {
  %s = (s32[], bf16[3,3]{1,0}) parameter(0)
  %dot = bf16[3,3]{1,0} fusion(%s), kind=kLoop, calls=%add, backend_config={"estimated_cycles":"7"}
  ROOT %sum = (s32[], bf16[3,3]{1,0:T(8,128)(2,1)}) all-reduce(%s), to_apply=%add
}

%below (s: (s32[], bf16[3,3])) -> pred[] {
  %s = (s32[], bf16[3,3]{1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(4)
  ROOT %less = pred[] compare(%s, %limit), direction=LT
}

%asked (s: (s32[], bf16[3,3])) -> pred[] {
  ROOT %less = pred[] compare(%s, %s), direction=LT
}

ENTRY %main (x: f32[64]) -> f32[8] {
  %x = f32[64]{0} parameter(0)
  %gather-start = (f32[2,4]{1,0}, f32[16,4]{1,0}) all-gather-start(%x), dimensions={0}
  %gather = f32[16,4]{1,0} all-gather-done(%gather-start), backend_config={"estimated_cycles":"5"}
  %rs = f32[8]{0} fusion(%x), kind=kCustom, calls=%fused, backend_config={"estimated_cycles":"30"}
  %known = (s32[], bf16[3,3]{1,0}) while(%x), condition=%asked, body=%body, backend_config={"known_trip_count":{"n":"10"}}
  %counted = (s32[], bf16[3,3]{1,0}) while(%x), condition=%below, body=%body
  %sampled = (s32[], bf16[3,3]{1,0}) while(%x), condition=%asked, body=%body
  ROOT %call = f32[8]{0} custom-call(%rs), custom_call_target="tpu_custom_call", metadata={op_name="all-reduce(x)"}
}
"""


def test_cycles_are_of_what_is_run_as_often_as_it_is_run():
    """A fusion's are its own; a loop's are those of 10 turns, of 4, and of one where nobody knows."""
    assert compiler_report.cycles(compiler_report.executed_lines(HLO)) == 5 + 30 + 7 * (10 + 4 + 1)
    assert compiler_report.has_loops(compiler_report.executed_lines(HLO))
    assert (
        compiler_report.cycles(
            compiler_report.executed_lines(HLO.replace("estimated_cycles", "cycles"))
        )
        is None
    )


def test_collectives_are_counted_once_each_with_the_bytes_of_their_results():
    found = compiler_report.collectives(compiler_report.executed_lines(HLO))
    turns, of_a_turn = 15, 4 + 2 * 9
    assert found == {
        "all-gather": (1, 4 * 16 * 4),
        "all-reduce": (1 + turns, 4 * 64 + turns * of_a_turn),
        "reduce-scatter": (1, 4 * 8),
    }
    assert compiler_report.custom_calls(HLO) == 1


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ("f32[]", 4),
        ("pred[5]{0}", 5),
        ("(bf16[2,3]{1,0:T(8,128)(2,1)}, /*index=5*/u8[7]{0}, s64[2]{0})", 12 + 7 + 16),
        ("(f8e4m3fn[4], s4[3])", 4 + 2),
    ],
)
def test_the_bytes_of_arrays_as_the_text_writes_them(shapes, size):
    assert compiler_report.total_bytes(shapes) == size


def test_a_real_program_says_what_it_does():
    """A sum over 8 devices is one all-reduce; a product of matrices takes 2 l m n FLOPs."""
    mesh = meshes.mesh(0)
    shared = NamedSharding(mesh, PartitionSpec(None, "data"))

    def product(a, b):
        return a @ b

    whole = NamedSharding(mesh, PartitionSpec())
    a = jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=shared)
    b = jax.ShapeDtypeStruct((64, 24), jnp.float32, sharding=meshes.batch_sharding(mesh))
    found = compiler_report.summary(jax.jit(product, out_shardings=whole).lower(a, b).compile())
    assert found["collectives"] == {"all-reduce": {"count": 1, "bytes": 4 * 16 * 24}}
    products, sums = 2 * 16 * 24 * (64 // 8), 16 * 24
    assert products <= found["flops"] <= products + 2 * sums
    assert found["argument_bytes"] == 4 * (16 + 24) * 64 // 8
    assert found["peak_bytes"] >= 4 * 16 * 24
    assert found["estimated_cycles"] is None and found["optimal_seconds"] is None


def test_topologies_have_as_many_devices_as_jax_sees():
    counts = {"v3:2x2": 8, "v4:2x2x1": 4, "v5e:2x4": 8, "v5e:1x1": 1, "v6e:16x16": 256}
    assert {name: hardware.parse_topology(name).devices for name in counts} == counts
    for name in ("v3", "v3:3x5", "v9:2x2", ""):
        with pytest.raises(ValueError, match=r"use local, or one of .*v3:2x2"):
            hardware.parse_topology(name)
    assert topology.file_stem("v5e:16x16") == "v5e-16x16"


def test_peak_flops_by_the_name_that_jax_gives():
    assert (
        hardware.peak_flops("TPU v3") == 61.5e12
        and hardware.peak_flops("NVIDIA A100-SXM4-40GB") == 312e12
    )
    assert hardware.peak_flops("NVIDIA L40S") == 362e12 and hardware.peak_flops("Tesla T4") == 65e12
    assert hardware.peak_flops("cpu") is None and hardware.memory("cpu") is None
    for chip in hardware.CHIPS.values():  # four units of 128x128 a core, or eight of two cores
        if chip.clock and chip.memory > 15.6:
            units = chip.flops / (chip.clock * 1e9) / (2 * 128 * 128)
            assert round(units) in (4, 8)


def test_only_batches_that_are_no_part_of_training_are_rounded_up():
    sections = load("cifar10").to_dict()
    sections["sample"]["batch_size"] = 100
    found = preflight.round_up_batches(sections, 256)
    assert found == {"sample.batch_size": 256}
    assert preflight.replace_fields(sections, found)["sample"]["batch_size"] == 256
    assert sections["sample"]["batch_size"] == 100


@pytest.fixture
def eight(tiny):
    """The tiny run on eight devices that are there."""
    tiny.parallel.devices = 0
    tiny.train.update(batch_size=32)
    tiny.data.data_dir = ""
    return tiny


CONTRACT = {"fits", "peak_bytes", "bytes_accessed", "flops", "optimal_seconds"} | {
    "estimated_cycles",
    "collectives",
}


@pytest.mark.slow
def test_preflight_of_the_devices_there_are(eight, tmp_path, capsys, monkeypatch):
    """Neither a data set nor a checkpoint is opened, prepared or left. It compiles both steps for 8 devices."""
    monkeypatch.setattr("ddpm_jax.datasets.library.open_builder", None)
    eight.sample.batch_size = 12
    run = preflight.build_run(eight, epath.Path(tmp_path), "local")
    assert run.model.shape == (8, 8, 1) and run.model.levels == 17
    assert run.sample.batch_size == 16 and run.mesh.size == 8
    preflight.preflight(run._replace(name="digits"), "local")
    made = json.loads((tmp_path / "preflight" / "local.json").read_text())
    assert made.keys() >= CONTRACT and made["sampling"].keys() >= CONTRACT
    assert made["fits"] and made["flops"] > made["sampling"]["flops"] > 0
    assert made["collectives"]["all-reduce"]["bytes"] >= 4 * made["parameters"]
    assert made["estimated_cycles"] is None and "nothing was run" in made["estimates"]
    assert [path.name for path in tmp_path.iterdir()] == ["preflight"]
    out = capsys.readouterr().out
    assert "digits at batch 32 compiles for local and needs" in out and "train step, 32" in out


@pytest.mark.slow
def test_what_makes_a_run_fit_is_found_and_typed(eight, tmp_path, capsys, monkeypatch):
    """Half a byte less than the whole batch needs: two halves of it fit, and are said to."""
    monkeypatch.setattr(preflight, "sampling_step", preflight.train_step)
    run = preflight.build_run(eight, epath.Path(tmp_path), "local")
    needed = preflight.compile_report(run, preflight.train_step)["peak_bytes"]
    monkeypatch.setattr(hardware, "memory", lambda kind: needed - 1)
    monkeypatch.setattr(preflight, "candidate_overrides", lambda run: list(ALL_KNOBS(run))[1:])
    preflight.preflight(run._replace(name="digits"), "local")
    made = json.loads((tmp_path / "preflight" / "local.json").read_text())
    assert not made["fits"] and made["fits_with"] == "--config.parallel.accumulation=2"
    assert made["then"]["peak_bytes"] < needed
    out = capsys.readouterr().out
    assert "does not fit local" in out and "fits with --config.parallel.accumulation=2" in out


ALL_KNOBS = preflight.candidate_overrides


def test_knobs_come_in_the_order_of_their_cost(eight, tmp_path):
    eight.model.multipliers = (1, 2)
    eight.train.update(batch_size=32, clip_groups=1)
    run = preflight.build_run(eight, epath.Path(tmp_path), "local")
    knobs = list(preflight.candidate_overrides(run))
    assert knobs == [
        {"parallel.params": "fsdp"},
        {"parallel.accumulation": 2},
        {"parallel.accumulation": 4},
        {"parallel.remat": (8,)},
        {"parallel.remat": (8, 4)},
        {"train.batch_size": 16},
        {"train.batch_size": 8},
    ]
    for knob in knobs:
        assert preflight.apply_overrides(run, knob) is not None, knob
    assert preflight.apply_overrides(run, {"train.batch_size": 9}) is None
    record.write(run.directory, run.config, run.model.shape, run.model.levels)
    assert (
        list(preflight.candidate_overrides(run)) == knobs[:5]
    )  # a stored run keeps its batch size
    assert preflight_table.flag(knobs[4]) == "'--config.parallel.remat=(8,4)'"


def test_the_table_has_no_row_of_dashes_and_says_why_times_are_missing():
    """On a CPU, whose compiler estimates no times and whose memory is unknown."""
    program = compiler_report.EMPTY | {"fits": True, "peak_bytes": 3 << 30, "flops": 2e9}
    report = program | {
        "clock_ghz": None,
        "memory_bytes": None,
        "device": "cpu",
        "topology": "local",
    }
    report |= {"config": "digits", "batch_size": 8, "sampling_batch_size": 8, "estimates": "none"}
    report |= {"custom_calls": 0, "collectives": {}, "optimization_level": "default"}
    report["sampling"] = report | {"flops": None}
    report["whole_run"] = {}
    lines = list(preflight_table.table(report))
    assert not any(line.split()[-2:] == ["-", "-"] for line in lines)
    assert any(line.split() == ["FLOPs", "2", "G", "-"] for line in lines)
    assert any("no times: the compiler for cpu estimates none" in line for line in lines)
    assert lines[-1].startswith("digits at batch 8 compiles for local and needs 3.00 GiB a device")


def test_a_run_on_other_devices_does_not_depend_on_those_here(tmp_path):
    """The paper's configs say what their images are, without any; the record of a run comes first."""
    for name, shape in (("cifar10", (32, 32, 3)), ("celebahq256", (256, 256, 3))):
        run = preflight.build_run(load(name), epath.Path(tmp_path), "local")
        assert run.model.shape == shape and run.model.levels == 256
    church = load("lsun_church256")
    church.data.image_size = 128
    with pytest.raises(ValueError, match="data.image_size is 128"):
        preflight.build_run(church, epath.Path(tmp_path), "local")
    record = {"config": load("cifar10").to_dict(), "images": {"shape": [32, 32, 1], "levels": 99}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    run = preflight.build_run(load("cifar10"), epath.Path(tmp_path), "local")
    assert run.model.shape == (32, 32, 1) and run.model.levels == 99


def test_resource_exhausted_in_few_words():
    text = "RESOURCE_EXHAUSTED: Ran out of memory. Used 47.06G of 15.75G hbm. Exceeded by 31G."
    assert compiler_report.shorten(RuntimeError(text)) == "needs 47.06G of 15.75G"


def test_without_the_compiler_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    args = [f"--config={ROOT}/configs/cifar10.py", "--mode=preflight", "--topology=v3:2x2"]
    status, _, err = ddpm(*args, cwd=tmp_path)
    assert status == 2 and not list(tmp_path.iterdir())
    assert err.startswith("ddpm_jax: ") and "pip install -e '.[preflight]'" in err


# With the TPU's compiler -----------------------------------------------------------------------


SMALL_NETWORK = [
    f"--config={ROOT}/configs/cifar10.py",
    "--config.model.channels=32",
    "--config.model.multipliers=(1,)",
    "--config.model.blocks=1",
    "--config.model.attention=()",
    "--config.model.dropout=0.0",
    "--config.sample.batch_size=8",
    "--mode=preflight",
]


@pytest.fixture
def compiler(monkeypatch):
    """libtpu at its cheapest level. Without it CI fails, and others do without these tests."""
    if not (os.environ.get("TPU_LIBRARY_PATH") or importlib.util.find_spec("libtpu")):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("libtpu is not installed")
    monkeypatch.setenv("JAX_OPTIMIZATION_LEVEL", "O0")


def compiled_for(topology, folder, *args):
    flags = [f"--topology={topology}", f"--workdir={folder}", *args]
    status, out, err = ddpm_process(*SMALL_NETWORK, *flags, cwd=folder)
    assert status == 0, err
    assert not err, err
    (path,) = (folder / "preflight").iterdir()
    assert path.stem == topology.replace(":", "-")
    return json.loads(path.read_text()), out


@pytest.mark.slow
def test_a_data_parallel_step_waits_for_its_neighbours_twice(compiler, tmp_path):
    """One all-reduce of all gradients in bfloat16, one of those in float32; sampling has none."""
    made, out = compiled_for("v3:2x2", tmp_path, "--config.train.batch_size=16")
    assert made["fits"] and made["device"] == "TPU v3" and "cifar10 at batch 16 fits v3:2x2" in out
    assert made["collectives"].keys() == {"all-reduce"}
    assert made["collectives"]["all-reduce"]["count"] == 2
    size = made["collectives"]["all-reduce"]["bytes"]
    assert 2 * made["parameters"] < size < 4 * made["parameters"]
    assert made["sampling"]["collectives"] == {} and made["sampling"]["fits"]
    assert made["steps_per_second"] == pytest.approx(0.94e9 / made["estimated_cycles"])
    assert made["optimal_seconds"] > 0 and made["custom_calls"] == 0
    assert "whole run by cycles: 800,000 steps in " in out and " chip-hours on 4 chips" in out
    by_cycles, ideal = (made["whole_run"][name] for name in ("by cycles", "by XLA's cost model"))
    assert (
        by_cycles["hours"] > 800_000 * made["estimated_seconds"] / 3600 and by_cycles["chips"] == 4
    )
    assert by_cycles["chip_hours"] == 4 * by_cycles["hours"] > ideal["chip_hours"] > 0
    assert "TPU v3" in made["versions"]["compiler"] and made["optimization_level"] == "O0"


@pytest.mark.slow
def test_fsdp_over_256_chips_gathers_what_is_spread(compiler, tmp_path):
    """One collective more, before the network. Of arrays this small the compiler makes it a sum."""
    args = ["--config.train.batch_size=256", "--config.parallel.params=fsdp"]
    args.append("--config.model.channels=64")  # the time embedding's 256 are then shared out
    made, out = compiled_for("v5e:16x16", tmp_path, *args)
    assert made["fits"] and made["layout"]["mesh"] == 256 and made["sampling_batch_size"] == 256
    assert "sample.batch_size 8 -> 256" in out
    assert sum(of["count"] for of in made["collectives"].values()) == 3
    gradients, gathered = 2 * made["parameters"], 4 * made["parameters"] / 4  # a quarter is spread
    size = sum(of["bytes"] for of in made["collectives"].values())
    assert gradients + gathered < size < 1.5 * (gradients + gathered)


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_told_what_makes_it_fit(compiler, tmp_path):
    """Only the TPU's own compiler says what fits."""
    made, out = compiled_for("v3:2x2", tmp_path, "--config.train.batch_size=28672")
    assert not made["fits"] and made["peak_bytes"] is None
    assert made["fits_with"] == "--config.parallel.accumulation=2" and made["then"]["fits"]
    assert "does not fit v3:2x2" in out and "of 15.48G" in out


@pytest.mark.slow
def test_a_batch_that_256_chips_cannot_share(compiler, tmp_path):
    """Only the TPU's own compiler has 256 chips."""
    status, _, err = ddpm_process(*SMALL_NETWORK, "--topology=v5e:16x16", cwd=tmp_path)
    assert status == 2 and "train.batch_size is 128, which 256 devices cannot share" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_who_has_the_compiler_and_no_tpu_trains_quietly(compiler, digits, tmp_path):
    """libtpu speaks to the standard error of a real process."""
    args = [*TINY, f"--config.data.data_dir={digits}", f"--workdir={tmp_path}"]
    status, out, err = ddpm_process(*args)
    assert status == 0 and not err and "cpu device" in out
