"""The commands that README and docs/ print: every flag, mode, field and config in them exists."""

import re
import shlex

import pytest
from conftest import ROOT, load

from ddpm_jax.cli import command_line, flag_table, modes, positional
from ddpm_jax.config import config_file
from ddpm_jax.figures import program

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = {flag.name for flag in flag_table.TABLE}
FIELDS = {
    field
    for name in ("cifar10", "digits", "digits_sde", "image_folder")
    for field in command_line.field_names(load(name, "vp" if "sde" in name else "").to_dict())
}

SCRIPT = r"(?:^|&&|;)\s*(?:\w+=\S*\s+)*(?:\S*/bin/)?ddpm"
COMMAND = rf"(?:{SCRIPT}|\bddpm_jax\.main)\s(.*)"


def commands(text: str) -> list[list[str]]:
    """The arguments of every command of ours in a page's blocks of shell."""
    found = []
    for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.search(COMMAND, f"{line} "):
                found.append(positional.to_flags(shlex.split(command[1], comments=True)))
    return found


@pytest.fixture(autouse=True)
def runs(monkeypatch):
    """The folders that pages call runs, such as runs/digits and RUN, are taken for runs."""
    monkeypatch.setattr(
        positional, "holds_run", lambda folder: re.match("runs/|gs://|[A-Z]+$", folder)
    )


def test_commands_are_found():
    assert len(commands(PAGES[0].read_text())) > 20
    page = "```sh\nddpm sample runs/x \\\n  --weights=raw  # why\ncd ddpm\nA=1 .venv/bin/ddpm train digits\n```\n"
    sampling = ["--mode=sample", "--workdir=runs/x", "--weights=raw"]
    assert commands(page) == [sampling, ["--mode=train", "--config=digits"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_tells_to_type_exists(page):
    for args in commands(page.read_text()):
        given = dict(arg.removeprefix("--").split("=", 1) for arg in args if "=" in arg)
        mode = given.get("mode", "train")
        for arg in args:
            name, _, value = arg.removeprefix("--").partition("=")
            if name.startswith("config."):
                assert name.removeprefix("config.") in FIELDS, args
            elif name == "config":
                found = config_file.find(value.partition(":")[0])
                assert value in ("CONFIG", "FILE", "...") or found, args
            elif name == "mode":
                assert value in modes.MODES, args
            elif name != "help":
                assert arg.startswith("--") and name in FLAGS, args
                allowed = modes.names_by_flag(name)
                assert not allowed or mode in allowed, args
        assert program.select(given.get("figures", "all").split(",")), args
