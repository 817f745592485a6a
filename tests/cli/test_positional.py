"""Short commands: ddpm train digits is python -m ddpm_jax.main --mode=train --config=digits."""

import importlib
import os
import shlex
import sys
import tomllib

import pytest
from conftest import ROOT
from support.command import ddpm

import ddpm_jax
from ddpm_jax import main
from ddpm_jax.cli import command_line, modes, positional


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with two runs and a folder of diffusers'."""
    for name in ("run", "runs/digits"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "weights").mkdir()
    for name in ("config.json", "model_index.json"):
        (tmp_path / "weights" / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "typed, flags",
    [
        ("train digits", "--mode=train --config=digits"),
        ("train ablation:mu-mse --workdir=x", "--mode=train --config=ablation:mu-mse --workdir=x"),
        ("train configs/digits.py", "--mode=train --config=configs/digits.py"),
        ("train run --config.train.steps=9", "--mode=train --workdir=run --config.train.steps=9"),
        ("train --config=digits", "--mode=train --config=digits"),
        ("prepare digits", "--mode=prepare --config=digits"),
        ("sample runs/digits", "--mode=sample --workdir=runs/digits"),
        ("sample lost --config=digits", "--mode=sample --workdir=lost --config=digits"),
        ("evaluate run --follow", "--mode=evaluate --workdir=run --follow"),
        ("sample --step=4 run", "--mode=sample --workdir=run --step=4"),
        ("evaluate --follow run", "--mode=evaluate --workdir=run --follow"),
        ("train --workdir a digits", "--mode=train --config=digits --workdir a"),
        ("train --workdir a", "--mode=train --workdir a"),
        ("compare run runs/digits", "--mode=compare --workdir=run,runs/digits"),
        ("compare --step 4 run runs/digits", "--mode=compare --workdir=run,runs/digits --step 4"),
        ("import weights --workdir=x", "--mode=import --source=weights --workdir=x"),
        ("--config=digits --mode=train", "--config=digits --mode=train"),
    ],
)
def test_a_short_command_stands_for_its_flags(typed, flags, folder):
    assert positional.to_flags(shlex.split(typed)) == shlex.split(flags)


def test_every_mode_may_come_first():
    assert [positional.to_flags([name]) for name in modes.MODES] == [
        [f"--mode={name}"] for name in modes.MODES
    ]


def test_a_short_command_is_the_long_one(folder):
    short, long = (
        command_line.parse(["", *typed.split(), "--config.train.steps=7"])
        for typed in ("train ablation:mu-mse", f"--config={ROOT}/configs/ablation.py:mu-mse")
    )
    assert short.config == long.config and short.config.train.steps == 7
    assert short.mode is long.mode is modes.MODES["train"]
    assert str(short.directory) == str(long.directory) == "runs/ablation-mu-mse"


@pytest.mark.parametrize(
    "typed, words",
    [
        ("trian digits", "'trian' is not a mode; did you mean train?"),
        ("digits", "such as: train digits"),
        ("run", "such as: sample run"),
        ("dream", "choose from benchmark, calibrate"),
        ("sample digits", "'digits' holds no run; did you mean runs/digits?"),
        ("sample runs/digist", "did you mean runs/digits?"),
        ("sample ''", "an argument is empty; expected a mode, then a config or"),
        ("'' run", "an argument is empty"),
        ("export nowhere/at/all", "'nowhere/at/all' holds no run; train first"),
        (
            "sample weights",
            "'weights' holds no run; make one of these weights first: ddpm import weights",
        ),
        (
            "train weights",
            "neither a config nor a folder that holds a run; make one of these weights",
        ),
        ("train digist", "neither a config nor a folder that holds a run; did you mean digits"),
        ("train runs/digist", "did you mean runs/digits?"),
        ("train nope.py:row", "choose from ablation, celebahq256"),
        ("train ablation:mu-mes", "mu-mse"),
        ("sample run --mode=train", "'sample' stands for --mode=sample, and --mode is given too"),
        ("sample run --workdir run", "'run' stands for --workdir=run"),
        ("train digits --config=cifar10", "'digits' stands for --config=digits"),
        ("train --workdir=a digits -config digits", "'digits' stands for --config=digits"),
        ("import a --source=b", "'a' stands for --source=a"),
        ("train digits cifar10", "unexpected argument 'cifar10'; a mode comes first"),
        ("--config=digits train", "unexpected argument 'train'"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_type(typed, words, folder):
    status, out, err = ddpm(*shlex.split(typed), cwd=folder)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("ddpm_jax: ") and words in err
    assert sorted(os.listdir()) == ["run", "runs", "weights"]


@pytest.mark.parametrize("typed", [["--help"], ["help"], ["-h"], ["sample", "--help"], []])
def test_help_comes_before_everything_and_nothing_typed_is_wrong(typed, folder):
    status, out, err = ddpm(*typed, cwd=folder)
    assert status == (0 if typed else 2) and bool(err) == (not typed)
    for example in ("ddpm train digits", "ddpm sample runs/digits", "-m ddpm_jax.main"):
        assert example in out


def test_help_of_a_topic_is_the_flag_s():
    assert ddpm("help", "train.keep_every") == ddpm("--help=train.keep_every")
    assert ddpm("help", "train") == ddpm("--help") != ddpm("--help=train")


def test_the_version_is_the_package_s():
    assert ddpm("--version") == (0, f"ddpm_jax {ddpm_jax.__version__}\n", "")


def test_the_console_script_runs_the_program_with_the_current_folder_s_modules(monkeypatch):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["ddpm"].partition(":")
    script = getattr(importlib.import_module(module), name)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(main, "run_process", lambda: sys.exit(repr(sys.path)))
    with pytest.raises(SystemExit) as ended:
        script()
    assert ended.value.code == repr(["", *before])


@pytest.mark.parametrize("status", [0, 1, 2, 75])
def test_a_process_ends_with_the_command_s_status_at_once_if_it_failed(status, monkeypatch):
    """At once: Orbax's threads wait for a save that has failed."""
    listened, at_once = [], []
    monkeypatch.setattr(main.signals, "listen", lambda: listened.append(True))
    monkeypatch.setattr(main, "command", lambda argv: status if listened else None)
    monkeypatch.setattr(main.os, "_exit", at_once.append)
    with pytest.raises(SystemExit) as ended:
        main.run_process()
    assert ended.value.code == status and at_once == [1] * (status == 1)
