"""The commands that README and docs/ print: every flag, mode, field and config in them exists."""

import re
import shlex

import pytest
from conftest import ROOT, load

from ddpm_jax.cli import command_line, flag_table, modes
from ddpm_jax.figures import program

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = {flag.name for flag in flag_table.TABLE}
FIELDS = {
    field
    for name in ("cifar10", "digits", "digits_sde", "image_folder")
    for field in command_line.field_names(load(name, "vp" if "sde" in name else "").to_dict())
}


def commands(text: str) -> list[list[str]]:
    """The arguments of every command of ours in a page's blocks of shell."""
    found = []
    for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if "ddpm_jax.main" in line:
                found.append(shlex.split(line.split("ddpm_jax.main", 1)[1], comments=True))
    return found


def test_commands_are_found():
    assert len(commands(PAGES[0].read_text())) > 20


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
                file = value.partition(":")[0]
                assert value in ("CONFIG", "FILE", "...") or (ROOT / file).exists(), args
            elif name == "mode":
                assert value in modes.MODES, args
            elif name != "help":
                assert arg.startswith("--") and name in FLAGS, args
                allowed = modes.names_by_flag(name)
                assert not allowed or mode in allowed, args
        assert program.select(given.get("figures", "all").split(",")), args
