"""The config reference: complete, and true of the checks that a config goes through."""

import re
import runpy

import pytest
from conftest import CONFIGS, ROOT, load
from etils import epath
from support.command import ddpm

from ddpm_jax.cli import command_line
from ddpm_jax.config import build, model, sampler
from ddpm_jax.config import sections as config_sections
from ddpm_jax.config.reference import defaults, page, sections
from ddpm_jax.datasets import library
from ddpm_jax.distributed import mesh
from ddpm_jax.evaluation import spaces
from ddpm_jax.run import record
from ddpm_jax.samplers import spacing

FIELDS = sections.FIELDS
CHOICES = {
    "model.dtype": {"auto": None} | model.DTYPES,
    "diffusion.schedule.name": model.SCHEDULES,
    "diffusion.output": model.OUTPUTS,
    "diffusion.variance": model.VARIANCES,
    "diffusion.loss": model.LOSSES,
    "diffusion.timesteps": model.TIMESTEPS,
    "diffusion.log_cdf": model.LIKELIHOODS,
    "train.on_nonfinite": config_sections.ON_NONFINITE,
    "train.keep_best": config_sections.KEEP_BEST,
    "train.tracker": config_sections.TRACKERS,
    "parallel.params": mesh.PARAMS,
    "sample.solver": sampler.SOLVERS,
    "sample.spacing": spacing.SPACINGS,
    "eval.quality.space": spaces.SPACES,
}


def fields_of_every_config() -> set[str]:
    """The fields of all configs of configs/ and their rows."""
    found = set()
    for path in CONFIGS.glob("*.py"):
        for row in runpy.run_path(str(path)).get("ROWS", [""]):
            found |= set(command_line.field_names(load(path.stem, row).to_dict()))
    return found


def test_docs_config_md_is_the_page_of_the_reference():
    """Else: python -m ddpm_jax.config.reference > docs/config.md"""
    assert (ROOT / "docs" / "config.md").read_text() == page.text()


def test_the_reference_has_every_field_of_every_config_and_no_other():
    assert fields_of_every_config() == FIELDS.keys()
    assert len(FIELDS) == sum(len(section.fields) for section in sections.SECTIONS)


def test_the_values_that_it_lists_are_those_that_the_code_knows():
    listed = {
        name: {choice.name for choice in field.choices}
        for name, field in FIELDS.items()
        if field.choices
    }
    assert listed == {name: set(table) for name, table in CHOICES.items()}
    assert config_sections.SPACES.keys() == spaces.SPACES.keys()
    assert all(f"`{name}`" in FIELDS["data.name"].meaning for name in library.FROM_SOURCE)
    for field in FIELDS.values():
        assert field.meaning and (field.choices or field.values), field.name


def test_it_marks_the_fields_that_a_resume_may_change():
    marked = {name for name, field in FIELDS.items() if field.changeable}
    assert marked == {name for name in FIELDS if name.startswith(record.CHANGEABLE)}


@pytest.mark.parametrize("name", ["cifar10", "digits", "image_folder"])
def test_the_defaults_that_it_shows_are_what_one_types_for_the_config_as_it_is(name):
    shown = defaults.paper() | (defaults.digits() if name == "digits" else {})
    config = load(name).to_dict()
    own = command_line.field_names(config)
    if name == "image_folder":
        own = [field for field in own if shown[field].config == "image_folder.py"]
    typed = [f"--config.{field}={shown[field].value.replace(repr(''), '')}" for field in own]
    command = command_line.parse(["main", f"--config={CONFIGS}/{name}.py", *typed])
    assert command.config.to_dict() == config


INTEGER = r"an integer, (\d+) (?:or more|to) ?"
OUTSIDE = [  # a range in words, and the values next to it
    (INTEGER, lambda least: [int(least) - 1]),
    (r"an integer, 0 \(black\) to 255", lambda: [-1, 256]),
    (r"a number, 0 or more and below 1", lambda: [-0.1, 1.0]),
    (r"a number, 0 or more(?:$|; `0`)", lambda: [-0.1]),
    (r"a number, 0 to 1", lambda: [-0.1, 1.1]),
    (r"a number, -1 or more", lambda: [-1.1]),
    (r"a number between 0 and 1", lambda: [0.0, 1.0]),
    (r"a number above 0", lambda: [0.0]),
]


def build_with(**fields) -> None:
    """Builds a run from a config that has the fields, with these values."""
    config = load("image_folder") if "data.background" in fields else load("digits")
    if any("sigma" in name for name in fields):
        config = load("digits_sde", "ve")
    shape = (config.data.image_size, config.data.image_size, 3)
    config.update_from_flattened_dict({"parallel.devices": 1, **fields})
    build.run(config, epath.Path("nowhere"), image_kind=(shape, 256))


@pytest.mark.parametrize("pattern, outside", OUTSIDE, ids=[pattern for pattern, _ in OUTSIDE])
def test_what_lies_outside_a_range_is_refused_by_the_field_s_name(pattern, outside, unchecked):
    matches = {name: re.match(pattern, field.values) for name, field in FIELDS.items()}
    assert any(matches.values())
    for name, match in matches.items():
        for value in outside(*match.groups()) if match else []:
            with pytest.raises(ValueError, match=f"{name}|every beta"):
                build_with(**{name: value})


def test_the_least_values_of_all_ranges_make_a_run(unchecked):
    least = r"an? (?:integer|number), (\d+) (?:or more|to)"
    found = {name: re.match(least, field.values) for name, field in FIELDS.items()}
    build_with(**{name: int(match[1]) for name, match in found.items() if match})


def test_help_prints_all_a_section_or_a_field():
    status, everything, _ = ddpm("--help=config")
    assert status == 0 and max(map(len, everything.splitlines())) <= 100
    assert all(f"\n  {name} = " in everything for name in FIELDS) and "`" not in everything
    _, section, _ = ddpm("--help=train")
    named = re.findall(r"^  (\S+) = ", section, re.MULTILINE)
    assert named == [name for name in FIELDS if name.startswith("train.")]
    assert section in everything + "\n"
    _, grid, _ = ddpm("--help=config.train.grid")
    assert re.findall(r"^  (\S+) = ", grid, re.MULTILINE) == [
        name for name in FIELDS if name.startswith("train.grid.")
    ]
    _, field, _ = ddpm("--mode=train", "--help=train.keep_every")
    assert field.startswith("  train.keep_every = 50000  [digits.py: 0; may change on resume]\n")


@pytest.mark.parametrize(
    "topic, near",
    [("trian", "mean train?"), ("lr", "mean optimizer.learning_rate?"), ("xyzzyq", "lists all")],
)
def test_help_about_an_unknown_name_suggests_near_ones(topic, near):
    status, out, err = ddpm(f"--help={topic}")
    assert status == 2 and not out and near in err
