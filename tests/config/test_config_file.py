"""Where a config is found: one's own file first, else the project's, from any folder."""

import pytest
from conftest import CONFIGS, load

from ddpm_jax.config import config_file

MINE = "from ml_collections import ConfigDict\ndef get_config(row='none'):\n    return ConfigDict({{'mine': {0!r}, 'row': row}})\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("typed", ["{0}", "{0}.py", "configs/{0}.py", "configs/{0}"])
def test_the_project_s_configs_are_found_from_any_folder(typed, folder):
    assert config_file.load(typed.format("digits")) == load("digits")
    name, row = typed.format("ablation"), "mu-mse"
    assert config_file.load(f"{name}:{row}") == load("ablation", row)
    assert config_file.run_name(f"{name}:{row}") == "ablation-mu-mse"


@pytest.mark.parametrize("place", ["configs/digits.py", "digits.py", "digits"])
def test_a_file_of_one_s_own_comes_first(place, folder):
    (folder / "configs").mkdir()
    (folder / place).write_text(MINE.format(place))
    assert config_file.load(place).mine == place
    assert config_file.load(f"{place}:a").row == "a"
    found = config_file.load("digits")
    assert found == load("digits") if place == "digits.py" else found.mine == place


def test_of_two_files_of_one_s_own_the_path_as_typed_comes_first(folder):
    (folder / "configs").mkdir()
    for place in ("configs/digits.py", "digits.py"):
        (folder / place).write_text(MINE.format(place))
    assert config_file.load("digits.py").mine == "digits.py"
    assert config_file.load("digits").mine == "configs/digits.py"


@pytest.mark.parametrize(
    "typed, words",
    [
        ("digist", "digist does not exist; did you mean digits"),
        ("configs/cifra10.py", "configs/cifra10.py does not exist; did you mean cifar10"),
        ("elsewhere/digits.py", "elsewhere/digits.py does not exist"),
        ("xyz", "choose from ablation, celebahq256, cifar10"),
        ("my", "did you mean my.py?"),
        ("own", "did you mean own_run"),
        ("ablation:mu", "write ablation.py:ROW, where ROW is one of mu-vlb-learned"),
    ],
)
def test_an_unknown_config_is_an_error_that_lists_near_names(typed, words, folder):
    (folder / "configs").mkdir()
    for name in ("my.py", "configs/own_run.py"):
        (folder / name).write_text(MINE.format(name))
    with pytest.raises(ValueError) as error:
        config_file.load(typed)
    assert words in str(error.value)


def test_the_package_s_folder_is_the_clone_s(folder):
    assert config_file.package_folder() == type(config_file.package_folder())(CONFIGS)
