"""README and docs/: every command, flag, mode, field and config that they name exists, and every link leads somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, load

from ddpm_jax.cli import command_line, flag_table, modes, positional
from ddpm_jax.config import config_file
from ddpm_jax.figures import program

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "launch" / "gke.md"]
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
    for language, block in re.findall(r"^```(.*?)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language not in ("bash", "sh", ""):
            continue
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
    assert len(commands(README.read_text())) > 7
    assert sum(len(commands(page.read_text())) for page in PAGES) > 60
    page = "```python\n1\n```\n```sh\nddpm sample runs/x \\\n  --weights=raw  # why\ncd ddpm\nA=1 .venv/bin/ddpm train digits\n```\n"
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
                own = f"# {value}\n" in page.read_text()  # a file that the page prints
                assert value in ("CONFIG", "FILE", "...") or found or own, args
            elif name == "mode":
                assert value in modes.MODES, args
            elif name != "help":
                assert arg.startswith("--") and name in FLAGS, args
                allowed = modes.names_by_flag(name)
                assert not allowed or mode in allowed, args
        assert program.select(given.get("figures", "all").split(",")), args


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_overrides_in_the_text_of_a_page_are_of_fields(page):
    named = re.findall(r"--config\.([a-z_]+\.[\w.]*\w)", page.read_text())
    assert set(named) <= set(FIELDS)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead to no file, or to no heading of it."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (
            target.exists() and (not anchor or anchor in anchors(target))
        ):
            found.append(link)
    return found


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert not broken_links(page)


def test_a_link_to_no_file_or_no_heading_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `page`, in short\n[a](#a-page-in-short) [b](#b) [c](page.md) [d](no.md) [e](https://e)"
    )
    assert broken_links(page) == ["#b", "no.md"]


def test_readme_links_to_every_page():
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", README.read_text()))
    assert linked == {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")}


def test_readme_is_short_enough_to_be_read():
    assert len(without_code(README.read_text()).replace("|", " ").split()) <= 1500
