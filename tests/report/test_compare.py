"""Runs side by side: their own numbers, the fields in which they differ, samples of the same noise."""

import json
import shutil

import numpy as np
import pytest
from support.command import ddpm

from ddpm_jax.cli import command_line, execute
from ddpm_jax.evaluation.results import Measurement
from ddpm_jax.report import compare, comparison, comparison_table
from ddpm_jax.run import sampling, state
from ddpm_jax.runtime import plotting


@pytest.fixture
def folder(loud_folder, tmp_path):
    """A folder with the loud run four times: as it is, with other seeds, and with another learning rate."""
    changes = {"a": {}, "b": {"seed": 8}, "c": {"seed": 9}, "d": {"optimizer.learning_rate": 0.5}}
    for name, fields in changes.items():
        shutil.copytree(loud_folder("plain"), tmp_path / name)
        set_fields(tmp_path / name, fields)
    return tmp_path


def set_fields(run, fields):
    """Changes a stored config."""
    path = run / "config.json"
    record = json.loads(path.read_text())
    for field, value in fields.items():
        section, _, key = field.rpartition(".")
        (record["config"][section] if section else record["config"])[key] = value
    path.write_text(json.dumps(record))


def write_bound(run, value, name="4-likelihood-test", **facts):
    (run / "eval").mkdir(exist_ok=True)
    record = {"bits_per_dim": value, "standard_error": 0.01, "split": "test"} | facts
    (run / "eval" / f"{name}.json").write_text(json.dumps(record))


def runs_of(folder, names, *flags):
    """The runs that a command on these names would compare."""
    workdirs = ",".join(f"{folder / name}" for name in names)
    command = command_line.parse(["ddpm", "--mode=compare", f"--workdir={workdirs}", *flags])
    return execute.check_and_build(command)


def sides_of(folder, names, *flags):
    runs = runs_of(folder, names, *flags)
    return [
        compare.read_side(name, run, 4)
        for name, run in zip(comparison.names(runs), runs, strict=True)
    ]


def test_the_command_writes_tables_figures_and_a_page_and_leaves_the_runs_alone(folder):
    for name, value in {"a": 2.5, "b": 2.7, "d": 2.3}.items():
        write_bound(folder / name, value)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    status, out, err = ddpm("compare", folder / "a", folder / "b", folder / "d")
    assert status == 0, err
    assert all(path.read_bytes() == content for path, content in before.items())
    written = folder / "compare-a-b-d"
    suffixes = {"compare.html", "compare.json", "compare.md", "samples.png", "samples.pdf"}
    assert {path.name for path in written.iterdir()} == suffixes  # nothing was logged, so no curves
    record = json.loads((written / "compare.json").read_text())
    values = [each["value"] for each in record["numbers"]["bits_per_dim_test"]]
    assert list(record["runs"]) == ["a", "b", "d"] and values == [2.5, 2.7, 2.3]
    assert record["fields"] == {"optimizer.learning_rate": [4e-3, 4e-3, 0.5], "seed": [3, 8, 3]}
    spread = record["seeds"]["a, b (2 seeds)"]["bits_per_dim_test"]
    assert spread == {"mean": 2.6, "deviation": pytest.approx(0.2 / 2**0.5), "runs": 2}
    table = (written / "compare.md").read_text()
    assert table in out and "| 2.500 ± 0.010 | 2.700 ± 0.010 | **2.300 ± 0.010** |" in table
    assert "learning_rate" in (written / "compare.html").read_text()


def test_samples_start_from_the_same_noise_and_are_those_of_each_runs_weights(folder, monkeypatch):
    """Also of a run whose own sample.seed is another: the first run's counts."""
    sheets = []
    plain = plotting.sheet
    monkeypatch.setattr(plotting, "sheet", lambda *args: sheets.append(args) or plain(*args))
    set_fields(folder / "b", {"sample.seed": 99})
    for flags in ((), ("--weights=raw",)):
        output = f"--output={folder}/out{len(flags)}"
        assert ddpm("compare", folder / "a", folder / "b", output, *flags)[0] == 0
    (ema, names, _), (raw, _, _) = sheets
    assert names == ["a", "b"] and ema.shape[:2] == (2, compare.IMAGES)
    assert (ema[0] == ema[1]).all() and (ema != raw).mean() > 0.5
    run = runs_of(folder, "ab")[0]
    step, params = state.read_weights(run)
    drawing = run._replace(sample=run.sample._replace(count=compare.IMAGES))
    written = sampling.write_samples(drawing, step, params)  # what --mode=sample writes
    assert (ema[0] == plotting.rgb(written[None])[0]).all()


def test_a_change_of_the_config_is_made_to_every_run(folder):
    a, b = runs_of(folder, "ab", "--config.sample.solver=ddim", "--config.sample.steps=3")
    assert a.sample.chain.name == b.sample.chain.name and "ddim" in a.sample.chain.name
    assert (a.seed, b.seed) == (3, 8)


def test_numbers_are_of_the_chosen_step_and_weights(folder):
    for name in "ab":
        write_bound(folder / name, 2.5)
        write_bound(folder / name, 9.5, "2-likelihood-test")
        write_bound(folder / name, 7.5, "4-raw-likelihood-test")
    for flags, value in ((), 2.5), (("--weights=raw",), 7.5):
        found = comparison.compare(sides_of(folder, "ab", *flags))
        assert [each.value for each in found.numbers["bits_per_dim_test"]] == [value] * 2


def test_runs_that_differ_in_the_seed_alone_are_a_group_and_a_copy_is_not_another_seed(folder):
    shutil.copytree(folder / "a", folder / "copy")
    set_fields(folder / "c", {"eval.steps": 5, "data.data_dir": str(folder)})  # change no training
    found = comparison.compare(sides_of(folder, ["a", "b", "c", "d", "copy"]))
    assert [group.members for group in found.groups] == [[0, 1, 2], [3], [4]]
    assert found.groups[0].name == "a, b, c (3 seeds)"


def number(value, error=None, **how):
    return Measurement(4, "bits_per_dim_test", value, error, how)


@pytest.mark.parametrize(
    "name, values, place",
    [
        ("bits_per_dim_test", [2.5, 2.3, None], 1),
        ("is_50k", [2.5, 2.3, None], 0),
        ("bits_per_dim_test", [2.5, None], None),
        ("bits_per_dim_test", [2.5, 2.5], None),
        ("floor_fid_50k_train", [2.5, 2.3], None),
        ("fid_50k_train", [float("nan"), 3.0, 4.0], 1),
    ],
)
def test_the_best_is_the_lowest_or_the_highest_as_the_number_has_it(name, values, place):
    assert comparison.best(name, [value and number(value) for value in values]) == place


def test_none_is_best_within_its_error():
    assert comparison.best("bits_per_dim_test", [number(2.50, 0.01), number(2.49, 0.01)]) is None
    assert comparison.best("bits_per_dim_test", [number(2.50, 0.01), number(2.48, 0.01)]) == 1


def test_numbers_that_were_measured_in_other_ways_are_named(folder):
    write_bound(folder / "a", 2.5, images=100)
    write_bound(folder / "b", 2.6, images=200, seed=4)
    (words,) = comparison.cautions(comparison.compare(sides_of(folder, "ab")))
    assert words == "Not measured alike (images differs): bound in bits/dim, test."


def test_images_of_other_sizes_are_enlarged_to_the_largest():
    small, large = (
        np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2)[..., :1],
        np.zeros((1, 4, 4, 3), np.uint8),
    )
    one, other = comparison.equal_sizes([small, large])
    assert one.shape == other.shape == (1, 4, 4, 3)
    assert (one[0, ::2, ::2, 0] == small[0, ..., 0]).all() and (
        one[0, 1::2, 1::2, 2] == small[0, ..., 0]
    ).all()


def test_the_names_of_runs_are_text_in_figures_and_their_curves_are_means_over_seeds(folder):
    for name in ("a", "b"):
        rows = [
            {"step": step, "loss": value} for step, value in ((1, 4.0), (2, 2.0 + (name == "b")))
        ]
        (folder / name / "metrics.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    (folder / "a").rename(folder / "$a$")
    sides = sides_of(folder, ["$a$", "b"])
    (panel,) = comparison_table.panels(sides, comparison.compare(sides))
    (line,) = panel.lines
    assert (line.x, line.y) == ([1, 2], [4.0, 2.5])
    assert line.label == r"\$a\$, b (2 seeds)"


def test_runs_of_one_name_are_told_apart_by_their_parents(folder):
    shutil.copytree(folder / "a", folder / "x" / "run")
    shutil.copytree(folder / "b", folder / "y" / "run")
    assert comparison.names(runs_of(folder, ["x/run", "y/run"])) == ["x/run", "y/run"]


@pytest.mark.parametrize(
    "names, flags, words",
    [
        (["a"], [], "needs two runs or more"),
        (["a", "b", "a"], [], "a twice"),
        (["a", "nowhere"], [], "nowhere"),
        (["a", "bare"], [], "bare holds no checkpoint for --mode=compare; train first"),
        (["a", "b"], ["--step=3"], "has no checkpoint of step 3; it has those of 4"),
        (["a", "b"], ["--config.sample.label=3"], "sample.label"),
        (["a", "b"], ["--output=a/config.json"], "--output"),
        (["a", "b"], ["--figures=grid"], "--figures goes with --mode=figures, not compare"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(folder, names, flags, words, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "bare").mkdir()
    shutil.copy(folder / "a" / "config.json", folder / "bare")
    before = sorted(folder.rglob("*"))
    status, _, err = ddpm("--mode=compare", f"--workdir={','.join(names)}", *flags, cwd=folder)
    assert status == 2 and words in err.strip().splitlines()[-1], err
    assert sorted(folder.rglob("*")) == before
