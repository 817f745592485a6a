"""Hours and chip-hours, against the paper's clock and docs/scaling.md's arithmetic."""

import pytest
from conftest import load
from etils import epath

from ddpm_jax.profiling import hardware, preflight, whole_run
from ddpm_jax.training import cadence


@pytest.fixture
def on_v3_8(monkeypatch, tmp_path):
    """Builds a config's run on eight devices that pass for the cores of a TPU v3-8."""
    monkeypatch.setitem(hardware.CHIPS, "cpu", hardware.CHIPS["TPU v3"])

    def run(name, **fields):
        config = load(name)
        config.update_from_flattened_dict(fields)
        return preflight.build_run(config, epath.Path(tmp_path), "local")

    return run


@pytest.mark.parametrize(
    "name, steps_per_second, hours, chip_hours",
    [("cifar10", 21.0, 10.6, 42), ("celebahq256", 2.2, 63, 252), ("lsun_cat256", 2.2, 227, 909)],
)
def test_at_the_paper_s_speed_a_run_takes_the_paper_s_hours(
    on_v3_8, name, steps_per_second, hours, chip_hours
):
    facts = whole_run.facts(on_v3_8(name), 1.0 / steps_per_second)
    assert facts["chips"] == 4 and facts["grid_hours"] is None
    assert facts["hours"] == pytest.approx(hours, rel=0.01)
    assert facts["chip_hours"] == pytest.approx(chip_hours, rel=0.01)
    line = whole_run.describe(facts)
    assert f" in {whole_run.number(facts['hours'])} hours" in line
    assert line.endswith(f" {whole_run.number(facts['chip_hours'])} chip-hours on 4 chips")


@pytest.mark.parametrize("steps, every", [(10, 3), (12, 3), (2, 3), (5, 0), (0, 3)])
def test_every_grid_that_training_draws_is_counted(on_v3_8, steps, every):
    fields = {"train.steps": steps, "train.sample_every": every, "train.grid.count": 64}
    run = on_v3_8("cifar10", **fields)
    drawn = [n for n in range(1, steps + 1) if cadence.is_due(n, every) or (n == steps and every)]
    assert whole_run.grid_steps(run) == len(drawn) * 20 * 64 / 256


def test_grids_are_mentioned_where_they_matter(on_v3_8):
    run = on_v3_8("cifar10", **{"train.sample_every": 10})
    facts = whole_run.facts(run, 0.05, 0.02)
    assert facts["grid_hours"] == pytest.approx(80_000 * 20 * (16 / 256) * 0.02 / 3600)
    assert facts["hours"] == pytest.approx(800_000 * 0.05 / 3600 + facts["grid_hours"])
    assert "grids" not in whole_run.describe(facts | {"grid_hours": 0.04 * facts["hours"]})
    line = whole_run.describe(facts | {"grid_hours": 0.25 * facts["hours"]})
    assert line.endswith("; 25% of it for the sample grids")


def test_what_does_not_fit_is_estimated_with_what_makes_it_fit(on_v3_8):
    run, nothing = on_v3_8("cifar10"), dict.fromkeys(whole_run.METHODS)
    does_not = nothing | {"fits": False, "sampling": nothing}
    assert whole_run.estimates(run, does_not) == {}
    remedied = does_not | {"then": nothing | {"estimated_seconds": 0.1}}
    found = whole_run.estimates(run, remedied)
    assert found == {"by cycles": whole_run.facts(run, 0.1)}


def test_only_tpus_have_chips_and_days_come_from_two_on():
    assert hardware.chips("cpu", 8) is None and hardware.chips("NVIDIA H100", 8) is None
    assert hardware.chips("TPU v5 lite", 256) == 256 and hardware.chips("TPU v2", 1) == 1
    assert whole_run.describe_hours(9556.0) == "9,556 hours (398 days)"
    assert whole_run.describe_hours(47.0) == "47 hours"
