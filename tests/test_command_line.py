"""The contract of the command line, on real processes: exit status, one clear line, nothing lost."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

TINY = [
    "--config=configs/digits.py",
    "--config.model.channels=4",
    "--config.model.multipliers=(1,)",
    "--config.diffusion.schedule.T=6",
    "--config.train.steps=4",
    "--config.train.batch_size=8",
    "--config.train.log_every=2",
    "--config.train.checkpoint_every=2",
    "--config.train.grid.steps=6",
    "--config.train.grid.count=4",
    "--config.sample.steps=6",
    "--config.sample.count=5",
    "--config.sample.batch_size=4",
    "--config.eval.steps=6",
    "--config.eval.images=12",
    "--config.eval.batch_size=12",
    "--config.parallel.devices=1",
]


def ddpm(*args, cwd=ROOT):
    """Exit status, standard output, and standard error of one command."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ddpm_jax.main", *map(str, args)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def files(folder):
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


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
    assert [row["step"] for row in rows] == [2, 4] and rows[0]["loss"] > 0
    assert list(folder.glob("events.out.tfevents.*"))
    assert Image.open(folder / "samples" / "4-grid.png").mode == "L"
    bound = json.loads((folder / "eval" / "4-likelihood-test.json").read_text())
    assert f"{bound['bits_per_dim']:.3f} bits/dim (12 images, 6 of 6 steps)" in out
    assert "step 2/4" in out and "step 4/4" in out and str(folder) in out


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


def test_help_exits_0_and_tells_a_newcomer_what_to_type():
    status, out, _ = ddpm("--help")
    assert status == 0
    for needed in ("--config=configs/digits.py", "--mode", "--workdir", "sample", "evaluate"):
        assert needed in out


WRONG = {
    "no arguments": ([], "--config=configs/digits.py"),
    "no such config": (["--config=configs/nope.py"], "no file configs/nope.py"),
    "no such row": (["--config=configs/ablation.py:eps-simpel"], "eps-simple"),
    "misspelt field": (["--config=configs/digits.py", "--config.train.step=3"], "train.steps"),
    "misspelt flag": (["--config=configs/digits.py", "--wrokdir=x"], "workdir"),
    "not a number": (["--config=configs/digits.py", "--config.train.steps=ten"], "train.steps"),
    "unknown mode": (["--config=configs/digits.py", "--mode=dream"], "train|sample|evaluate"),
    "no such data": (["--config=configs/digits.py", "--config.data.name=digitz"], "digitz"),
    "nothing to sample": (["--config=configs/digits.py", "--mode=sample"], "no checkpoint"),
    "workdir is a file": (
        ["--config=configs/digits.py", f"--workdir={ROOT}/LICENSE"],
        "no folder that can be written",
    ),
    "no held-out split": (
        ["--config=configs/digits.py", "--config.data.held_out=tset"],
        "no split 'tset'",
    ),
    "not a flag": (["--config=configs/digits.py", "train"], "'train' is no flag"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_exits_2_with_one_line_and_writes_nothing(case, tmp_path):
    args, needed = WRONG[case]
    args = [arg.replace("configs/", f"{ROOT}/configs/") for arg in args]
    status, out, err = ddpm(*args, cwd=tmp_path)
    assert status == 2, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("ddpm_jax: ") and needed in last.replace(f"{ROOT}/", "")
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_evaluating_nothing_is_wrong_usage(trained):
    folder, _ = trained
    status, _, err = ddpm(f"--workdir={folder}", "--mode=evaluate", "--config.eval.images=0")
    assert status == 2 and "--config.eval.images" in err


def test_a_run_without_a_finished_checkpoint_is_nothing_to_sample_from(trained, tmp_path):
    folder, _ = trained
    (tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    status, _, err = ddpm(f"--workdir={tmp_path}", "--mode=sample")
    assert status == 2 and "no checkpoint to sample from" in err


def test_another_config_in_a_run_s_folder_is_refused_and_nothing_changes(trained):
    folder, _ = trained
    before = files(folder)
    status, _, err = ddpm(f"--workdir={folder}", "--config.optimizer.learning_rate=1.0")
    assert status == 2 and "optimizer.learning_rate (0.004 -> 1.0)" in err
    assert files(folder) == before


def test_a_data_dir_that_has_gone_is_wrong_usage_on_resuming_too(trained):
    folder, _ = trained
    before = files(folder)
    status, _, err = ddpm(f"--workdir={folder}", "--config.data.data_dir=/nowhere")
    assert status == 2 and "data.data_dir /nowhere does not exist" in err
    assert files(folder) == before


def test_a_traceback_is_for_those_who_ask(tmp_path):
    args = [f"--config={ROOT}/configs/digits.py", "--config.train.batch_size=0", "--verbosity=1"]
    status, _, err = ddpm(*args, cwd=tmp_path)
    assert status == 2 and "Traceback" in err and "train.batch_size is 0" in err
