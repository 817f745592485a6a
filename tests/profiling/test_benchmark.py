"""What --mode=benchmark leaves and says; how fast anything is, no test asks."""

import json
import math

import numpy as np
import pytest
from etils import epath
from support.command import TINY, ddpm
from support.stub import stubbed

from ddpm_jax.config import build
from ddpm_jax.profiling import benchmark, hardware, preflight, timing

TIMED = {"seconds", "quartiles", "best", "units", "steps_a_unit"}
TIMED |= {"steps_per_second", "images_per_second", "batch_size"}
COMPILED = {"compile_seconds", "flops", "bytes_accessed", "peak_bytes", "of_peak"}
COMPILED |= {"loop_bodies_counted_once"}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.02)
    monkeypatch.setattr(timing, "UNIT", 0.001)


@pytest.fixture
def run(tiny, tmp_path):
    tiny.parallel.devices = 8
    return stubbed(build.run(tiny, epath.Path(tmp_path)))


def test_it_leaves_every_part_s_numbers_and_says_them(run, capsys):
    benchmark.benchmark(run._replace(name="tiny"), ["all"])
    (path,) = (run.directory / "benchmark").iterdir()
    assert path.name == f"cpu-{run.mesh.size}.json"
    made = json.loads(path.read_text())
    for name in benchmark.PARTS:
        facts = made[name]
        assert facts.keys() >= TIMED | (COMPILED if name in benchmark.WITHOUT_DATA else set())
        low, high = facts["quartiles"]
        assert 0 < facts["best"] <= facts["seconds"] and low <= facts["seconds"] <= high
        assert math.isclose(facts["steps_per_second"] * facts["seconds"], 1.0)
        images = facts["batch_size"] / facts.get("chain_steps", 1)
        assert math.isclose(facts["images_per_second"], facts["steps_per_second"] * images)
    assert (made["devices"], made["processes"], made["config"]) == (run.mesh.size, 1, "tiny")
    assert made["peak_flops"] is None and made["train_step"]["of_peak"] is None  # of a CPU
    assert made["input_pipeline"]["first_batch_seconds"].keys() == {"0", "700000"}
    whole, said = made["whole_run"], capsys.readouterr().out
    assert whole["seconds_per_step"] == made["end_to_end"]["seconds"] and whole["chips"] is None
    assert f"whole run: {run.train.steps} steps in {whole['hours']:.3g} hours\n" in said
    assert all(name.replace("_", " ") in said for name in benchmark.PARTS) and str(path) in said
    assert [path.name for path in run.directory.iterdir()] == ["benchmark"]


def test_flops_are_what_the_compiler_counts_in_that_very_program(run):
    for name, step in zip(
        benchmark.WITHOUT_DATA, (preflight.train_step, preflight.sampling_step), strict=True
    ):
        ((_, facts),) = benchmark.measure(run, [name])
        counted = step(run).compile().cost_analysis()["flops"]
        assert facts["flops"] == counted > 0


def test_the_share_of_the_peak_is_of_one_device_s(run, monkeypatch):
    monkeypatch.setattr(hardware, "peak_flops", lambda kind: 1e9)
    facts = {"flops": 3e8, "seconds": 0.5, "loop_bodies_counted_once": False}
    assert math.isclose(benchmark.add_peak_share(run, facts)["of_peak"], 0.6)
    facts["loop_bodies_counted_once"] = True  # then nobody knows how many there were
    assert benchmark.add_peak_share(run, facts)["of_peak"] is None


def test_what_is_timed_end_to_end_is_training_on_the_data_set(run):
    """Each batch is taken once, in order: as many as are timed, and two to warm up."""
    seen = []

    def take(batches, steps):
        seen.extend(np.asarray(next(batches).images) for _ in range(steps))

    source, _ = benchmark.load(run)
    facts = benchmark.end_to_end(run, take, source)
    assert len(seen) == 2 + facts["units"] * facts["steps_a_unit"]
    for batch, other in zip(seen, benchmark.batches(run, source, 0), strict=False):
        np.testing.assert_array_equal(batch, other.images)


def test_a_unit_is_of_several_steps_where_they_are_short_and_never_too_many():
    asked = []
    found = timing.measure(asked.append, limit=7)
    assert asked[:2] == [1, 1] and set(asked[2:]) == {7} and found.steps == 7
    assert len(found.seconds) == len(asked) - 2 >= timing.MIN_UNITS


def test_the_median_is_that_of_the_units_whatever_the_order():
    seconds = [4.0, 1.0, 100.0, 2.0, 3.0]
    facts = timing.Timing(seconds, 10).facts(12)
    assert (facts["seconds"], facts["best"], facts["images_per_second"]) == (3.0, 1.0, 4.0)
    assert facts["quartiles"] == np.quantile(seconds, [0.25, 0.75]).tolist()


@pytest.mark.slow
def test_parts_that_read_no_images_need_none(tiny, tmp_path):
    """Only a compiled program of the real network has FLOPs to compare."""
    tiny.data.data_dir = ""
    tiny.data.name = "cifar10"  # which is not prepared, and not asked for
    tiny.data.image_size = 32
    run = benchmark.build_run(tiny, epath.Path(tmp_path), list(benchmark.WITHOUT_DATA))
    assert run.model.shape == (32, 32, 3)
    (_, facts), (_, sampled) = benchmark.measure(run, benchmark.choose(benchmark.WITHOUT_DATA))
    assert facts["flops"] > sampled["flops"] > 0


@pytest.mark.parametrize(
    "argument, fault",
    [
        ("--benchmark=train_stop", "unknown part 'train_stop'; did you mean train_step"),
        ("--benchmark=", "unknown part ''; choose from all, end_to_end"),
        ("--config.data.data_dir=/nowhere", "data.data_dir /nowhere does not exist"),
    ],
)
def test_bad_use_is_exit_2_and_writes_nothing(argument, fault, tmp_path):
    made = tmp_path / "made"
    status, _, err = ddpm(*TINY, "--mode=benchmark", f"--workdir={made}", argument)
    assert status == 2 and fault in err and not made.exists()


@pytest.mark.slow
def test_as_a_command_it_needs_no_checkpoint(digits, tmp_path):
    """The command with the real network, whose compilation is what it times."""
    where = f"--config.data.data_dir={digits}", f"--workdir={tmp_path}/made"
    status, out, err = ddpm(
        *TINY, *where, "--mode=benchmark", "--benchmark=train_step,input_pipeline"
    )
    assert status == 0, err
    made = json.loads((tmp_path / "made" / "benchmark" / "cpu-1.json").read_text())
    assert made.keys() >= {"train_step", "input_pipeline"} and "end_to_end" not in made
    assert "train step, " in out and "end to end" not in out
