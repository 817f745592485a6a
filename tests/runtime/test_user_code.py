"""User code is found and summed without being run, and what cannot be loaded is one line."""

import pytest
from etils import epath

from ddpm_jax.runtime import user_code

FAILS = "raise RuntimeError('this module was run')\n"


def package(folder, name="own_package", content=FAILS):
    (folder / name / "inner").mkdir(parents=True)
    for path in ("__init__.py", "inner/__init__.py", "inner/losses.py"):
        (folder / name / path).write_text(content)
    return folder / name


def test_a_name_is_a_module_a_colon_and_an_object():
    for name in ("m:f", "my_module.inner:Class", "_m:_f", "my_losses.py:f"):
        assert user_code.is_name(name)
    for name in ("linear", "m:", ":f", "m:f.g", "cifar10:3.0.2", "my-module:f", "a..b:f", 3, None):
        assert not user_code.is_name(name)


def test_a_checksum_and_a_place_are_found_without_running_module_or_packages(code):
    (code / "own_losses.py").write_text(FAILS)
    inner = package(code) / "inner" / "losses.py"
    assert user_code.locations("own_losses:f") == {code / "own_losses.py"}
    assert inner in user_code.locations("own_package.inner.losses:f")
    for name in ("own_losses:f", "own_package.inner.losses:f"):
        assert len(user_code.checksum(name)) == 16
        with pytest.raises(ValueError, match="importing .* failed: RuntimeError: this module was"):
            user_code.load("diffusion.loss", name)


def test_a_checksum_is_of_the_content_of_a_module_wherever_it_lies(code, tmp_path, monkeypatch):
    def summed(text, where):
        where.mkdir(exist_ok=True)
        (where / "own_losses.py").write_text(text)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(where)
            return user_code.checksum("own_losses:f")

    one = summed("a = 1\n", tmp_path / "here")
    assert one == summed("a = 1\n", tmp_path / "there") != summed("a = 2\n", tmp_path / "there")
    assert user_code.checksum("own_nothing:f") == ""


@pytest.mark.parametrize("name", ["own_package:f", "own_package.inner.losses:f"])
@pytest.mark.parametrize("changed", ["__init__.py", "inner/losses.py", "new.py"])
def test_a_checksum_of_a_package_is_of_all_its_files(code, name, changed):
    path = package(code) / changed
    before = user_code.checksum(name)
    path.write_text("a = 1\n")
    assert user_code.checksum(name) != before


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "own_losse:f",
            "no module own_losse on the Python path, which begins with {folder}; start",
        ),
        ("own_losses.inner:f", "no module own_losses.inner on the Python path"),
        ("own_losses.py:f", "name the module without its ending .py"),
        ("own_losses:min_snd", "own_losses has no min_snd; did you mean min_snr?"),
        ("own-losses:f", "name code of your own as my_module:my_function"),
        ("own_broken:f", "importing own_broken failed: SyntaxError: .*own_broken.py, line 1"),
        ("own_script:f", "importing own_script failed: SystemExit: 3"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_with_the_field(code, name, message):
    (code / "own_losses.py").write_text("def min_snr(): pass\n")
    (code / "own_broken.py").write_text("def f(\n")
    (code / "own_script.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(ValueError, match=message.format(folder=code)) as raised:
        user_code.load("diffusion.loss", name)
    assert str(raised.value).startswith("diffusion.loss is ") and "\n" not in str(raised.value)
    assert user_code.load("diffusion.loss", "own_losses:min_snr").__name__ == "min_snr"


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "numpy.linalg:norm", "pytest:main"])
def test_libraries_are_installed_and_so_is_this_package(name):
    assert user_code.is_installed(name) and user_code.is_installed("ddpm_jax.diffusion:linear")


def test_a_folder_holds_the_modules_and_packages_in_it_and_no_others(code, monkeypatch):
    (code / "own_losses.py").write_text("")
    package(code)
    (code / "elsewhere").mkdir()
    for name in ("own_losses:f", "own_package:f", "own_package.inner.losses:f"):
        assert not user_code.is_installed(name)
        assert user_code.is_inside(name, epath.Path(code))
        assert not user_code.is_inside(name, epath.Path(code / "elsewhere"))
    assert user_code.is_inside("own_package.inner.losses:f", epath.Path(code / "own_package"))
    assert not user_code.is_inside("own_losses:f", epath.Path("gs://bucket/run"))
    (code / "elsewhere" / "own_linked.py").symlink_to(code / "own_losses.py")
    monkeypatch.syspath_prepend(code / "elsewhere")
    for place in ("elsewhere", "."):  # the link's and its target's
        assert user_code.is_inside("own_linked:f", epath.Path(code / place))
