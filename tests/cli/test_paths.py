"""Paths as people type them: with a ~, and with characters of glob patterns."""

import shutil

import pytest
from conftest import CONFIGS, ROOT
from etils import epath
from support.command import ddpm

from ddpm_jax.cli import command_line
from ddpm_jax.codec.commands import pictures
from ddpm_jax.config import config_file, sections
from ddpm_jax.datasets import library
from ddpm_jax.runtime import foreign, paths


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def parsed(*args):
    return command_line.parse(["", f"--config={CONFIGS / 'digits.py'}", *args])


@pytest.mark.parametrize(
    "mode, flag, typed, expanded",
    [
        ("prepare", "source", "~/a.tar", "{home}/a.tar"),
        ("export", "target", "~/a", "{home}/a"),
        ("compress", "output", "~", "{home}"),
        ("compress", "input", "~/a,b,~/c", ["{home}/a", "b", "{home}/c"]),
        ("compress", "output", "a~/~", "a~/~"),
    ],
)
def test_a_flag_s_path_may_begin_with_a_tilde(home, mode, flag, typed, expanded):
    value = parsed(f"--mode={mode}", f"--{flag}={typed}").options[flag]
    fill = [each.format(home=home) for each in ([expanded] if flag != "input" else expanded)]
    assert value == (fill if flag == "input" else fill[0])


def test_so_may_the_config_the_workdir_and_a_field(home, loud_run):
    shutil.copy(CONFIGS / "digits.py", home / "mine.py")
    assert config_file.load("~/mine.py") == config_file.load(f"{ROOT}/configs/digits.py")
    assert parsed("--workdir=~/x").directory == epath.Path(home / "x")
    assert library.resolve("~/data") == epath.Path(home / "data")
    quality = {"samples": 8, "space": "pixels", "inception": "~/w", "reference": "", "path": "~/s"}
    chosen = sections.quality_section(metrics=(), **quality)
    assert chosen.path == f"{home}/s" and chosen.inception == f"{home}/w" and not chosen.reference
    assert loud_run().directory == home / "plain"
    args = ("--mode=sample", "--config.sample.count=4", "--config.sample.batch_size=4")
    status, _, err = ddpm("--workdir=~/plain", *args, cwd=home)
    assert status == 0, err
    assert not (home / "~").exists() and list((home / "plain/samples").iterdir())


def test_a_bucket_is_not_taken_for_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.absolute(epath.Path("runs/x")) == epath.Path(tmp_path / "runs" / "x")
    bucket = epath.Path("gs://bucket/run")
    assert paths.user_path("gs://bucket/run") == bucket == paths.absolute(bucket)
    paths.check_literal(bucket, "--workdir")
    with pytest.raises(ValueError, match="--workdir: gs://bucket/"):
        paths.check_literal(bucket / "lr=[1]", "--workdir")


def test_what_is_only_read_may_have_any_name(tmp_path):
    folder = epath.Path(tmp_path) / "a[b]*?"
    folder.mkdir()
    for name in ("1.png", "model-5.ckpt.index", "model-5.ckpt.data-00000-of-00001"):
        (folder / name).write_bytes(b"")
    assert pictures.find_files([str(folder)], (".png",)) == [folder / "1.png"]
    prefix = foreign.tensorflow_prefix(folder)
    assert prefix == folder / "model-5.ckpt"
    assert foreign.data_files(prefix) == [folder / "model-5.ckpt.data-00000-of-00001"]
