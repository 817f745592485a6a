"""The contract of the command line: exit status, one clear line, nothing lost."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from support.command import TINY, ddpm

from ddpm_jax.cli import command_line


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A run of 4 steps, by the command."""
    folder = tmp_path_factory.mktemp("run")
    status, out, err = ddpm(*TINY, f"--config.data.data_dir={digits}", f"--workdir={folder}")
    assert status == 0, err
    return folder, out


def test_training_leaves_what_the_contract_says_and_says_where(trained):
    folder, out = trained
    record = json.loads((folder / "config.json").read_text())
    assert record["config"]["train"]["steps"] == 4 and record["packages"]["jax"]
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["2", "4"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 4] and rows[0]["loss"] > 0
    assert list(folder.glob("events.out.tfevents.*"))
    assert Image.open(folder / "samples" / "4-grid.png").mode == "L"
    bound = json.loads((folder / "eval" / "4-likelihood-test.json").read_text())
    assert f"{bound['bits_per_dim']:.3f} bits/dim (12 images, 6 of 6 steps)" in out
    assert "step 2/4" in out and "step 4/4" in out and str(folder) in out
    report = (folder / "report.html").read_text()
    assert f"{bound['bits_per_dim']:.4f}"[:4] in report and 'data-place="step 4"' in report
    assert "training images, cropped and resized" in report


def test_the_same_command_resumes_and_a_run_needs_no_config(trained):
    folder, _ = trained
    status, out, err = ddpm(f"--workdir={folder}", "--config.train.steps=6")
    assert status == 0, err
    assert "resuming from step 4" in out and "step 6/6" in out


@pytest.mark.parametrize("solver", [[], ["--config.sample.solver=ddim", "--config.sample.steps=3"]])
def test_sampling_writes_an_npz_and_a_grid(trained, solver):
    folder, _ = trained
    status, out, err = ddpm("--mode=sample", "--workdir", folder, *solver)
    assert status == 0, err
    name = "ddim-3-eta0-5" if solver else "ancestral-6-5"
    (path,) = folder.glob(f"samples/*-{name}-seed0.npz")
    images = np.load(path)["arr_0"]
    assert images.shape == (5, 8, 8, 1) and images.dtype == np.uint8
    assert path.with_suffix(".png").exists() and path.stem in out


def test_raw_weights_and_other_steps_have_files_of_their_own_and_a_young_average_is_named(trained):
    folder, _ = trained
    step = max(int(path.name) for path in (folder / "checkpoints").iterdir())
    said = f"the EMA at step {step} is still"
    for weights, words in (("ema", said), ("raw", f"sampling 3 images at step {step}, raw-")):
        command = ["--mode=sample", f"--weights={weights}", "--config.sample.count=3"]
        status, out, err = ddpm(*command, f"--workdir={folder}")
        assert status == 0, err
        assert out.count(words) == 1 and (said in out) == (weights == "ema")
    names = {path.name for path in folder.glob("samples/*-3-seed0.npz")}
    assert names == {f"{step}-ancestral-6-3-seed0.npz", f"{step}-raw-ancestral-6-3-seed0.npz"}
    first = min(int(path.name) for path in (folder / "checkpoints").iterdir())
    command = ["--mode=sample", f"--step={first}", "--config.sample.count=3"]
    status, _, err = ddpm(*command, f"--workdir={folder}")
    assert status == 0 and (folder / "samples" / f"{first}-ancestral-6-3-seed0.npz").exists(), err
    status, _, err = ddpm("--mode=sample", "--step=3", f"--workdir={folder}")
    assert status == 2 and f"no checkpoint of step 3; it has those of {first}, " in err


def test_of_a_flag_given_twice_the_last_value_counts(trained):
    folder, _ = trained
    command = command_line.parse(["main", "--workdir=nowhere", f"--workdir={folder}"])
    assert command.directory == folder and command.config.model.channels == 4


def test_help_exits_0_and_tells_a_newcomer_what_to_type():
    status, out, _ = ddpm("--help")
    assert status == 0
    for needed in (
        "ddpm train digits",
        "--config=configs/digits.py",
        "--mode",
        "--workdir",
        "sample",
        "evaluate",
    ):
        assert needed in out


def test_a_run_without_a_finished_checkpoint_is_nothing_to_sample_from(trained, tmp_path):
    folder, _ = trained
    (tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    status, _, err = ddpm(f"--workdir={tmp_path}", "--mode=sample")
    assert status == 2 and "no checkpoint for --mode=sample" in err


def test_a_traceback_is_for_those_who_ask(tmp_path):
    args = [f"--config={ROOT}/configs/digits.py", "--config.train.batch_size=0", "--verbosity=1"]
    status, _, err = ddpm(*args, cwd=tmp_path)
    assert status == 2 and "Traceback" in err and "train.batch_size is 0" in err


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--help=config"],
        ["train", "configs/digits.py", "--wrokdir=x"],
        ["train", "digist"],
    ],
)
def test_help_and_a_mistyped_word_cost_less_than_loading_jax(args):
    """In a process of its own, since this one has jax: what loads it makes both several times slower."""
    code = (
        "import sys; from ddpm_jax import main\n"
        "try: status = main.main(['main', *sys.argv[1:]])\n"
        "except SystemExit as ended: status = ended.code\n"
        "sys.exit(9 if {'jax', 'tensorflow_datasets', 'scipy'} & set(sys.modules) else status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True)
    assert done.returncode == (0 if args[0].startswith("--help") else 2), done.stderr
