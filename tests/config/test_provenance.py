"""Code that a stored run names is not imported on its word: the rule of trust, in every mode."""

import json
import sys

import pytest
from conftest import tiny_config
from etils import epath
from support.command import ddpm

from ddpm_jax.api import loading, training
from ddpm_jax.cli import command_line, execute, modes
from ddpm_jax.config import build, guide, provenance, stored_config
from ddpm_jax.profiling import preflight
from ddpm_jax.run import record
from ddpm_jax.runtime import user_code
from ddpm_jax.weights import importing

LOSS = "diffusion.loss"
SIMPLE = "from ddpm_jax.losses.objective import simple\n"


@pytest.fixture
def stored(digits, tmp_path, code):
    """Makes a run's folder whose config.json names user code, which is written too, as 'training' would."""

    def make(name="own_losses:simple", field=LOSS, folder="run", text=SIMPLE):
        (code / "own_losses.py").write_text(text)
        config = tiny_config(digits)
        config.update_from_flattened_dict({field: name})
        directory = epath.Path(tmp_path / folder)
        record.write(directory, config.to_dict(), (8, 8, 1), 17)
        (directory / "checkpoints" / "2").mkdir(parents=True)
        return config.to_dict(), directory

    return make


def rewrite(directory, **fields):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refused(config, directory):
    """The line of the refusal, which trust lifts."""
    provenance.check(config, directory, trust=True)
    with pytest.raises(ValueError) as error:
        provenance.check(config, directory, trust=False)
    assert str(error.value).endswith(
        "if you trust this run, add --trust (in Python: trust=True) to use it"
    )
    return str(error.value)


def test_code_that_is_as_it_was_needs_no_trust(stored):
    config, directory = stored()
    provenance.check(config, directory, trust=False)
    text = (directory / "config.json").read_text()
    assert list(json.loads(text)["user_code"]) == ["own_losses:simple"]


def test_a_record_without_user_code_is_what_it_was(stored, tmp_path):
    _, directory = stored("simple")
    assert "user_code" not in json.loads((directory / "config.json").read_text())


def test_code_that_has_changed_since_is_refused_unless_it_is_typed_now(stored, code):
    config, directory = stored()
    (code / "own_losses.py").write_text(SIMPLE + "\n")
    line = "this run's diffusion.loss is own_losses:simple, and own_losses.py has changed since"
    assert refused(config, directory).startswith(line)
    config["diffusion"]["loss"] = "own_losses:another"
    provenance.check(config, directory, trust=False)
    provenance.check(config, directory / "elsewhere", trust=False)


@pytest.mark.parametrize("name", ["os:system", "optax:l2_loss", "ddpm_jax.losses.objective:simple"])
def test_a_run_does_not_name_code_of_libraries_but_a_user_may(stored, name):
    config, directory = stored(name)
    assert f"is {name}, code of an installed package" in refused(config, directory)
    provenance.check(config, directory / "elsewhere", trust=False)


def test_code_without_a_checksum_in_the_record_is_refused(stored):
    config, directory = stored()
    rewrite(directory, user_code={})
    assert "config.json has no checksum of that code" in refused(config, directory)


def test_code_in_the_run_s_folder_is_refused_whoever_names_it(stored, monkeypatch, tmp_path):
    config, directory = stored("own_inside:simple")
    (directory / "own_inside.py").write_text(SIMPLE)
    monkeypatch.syspath_prepend(directory)
    record.write(directory, config, (8, 8, 1), 17)
    lies = f"is own_inside:simple, whose source lies in the run's folder {directory}"
    assert lies in refused(config, directory)
    config["diffusion"]["loss"] = "simple"
    record.write(directory, config, (8, 8, 1), 17)
    config["diffusion"]["loss"] = "own_inside:simple"
    assert lies in refused(config, directory)


def test_missing_code_of_a_run_is_named_with_its_field_and_where_to_look(stored, code):
    config, directory = stored()
    (code / "own_losses.py").unlink()
    with pytest.raises(
        ValueError, match="^this run's diffusion.loss is own_losses:simple, but there"
    ):
        provenance.check(config, directory, trust=False)
    with pytest.raises(ValueError, match="add that folder to PYTHONPATH$"):
        provenance.check(config, directory, trust=False)


def test_a_run_whose_data_set_is_missing_still_samples(stored, code, unchecked):
    config, directory = stored("own_losses:images", "data.name")
    (code / "own_losses.py").unlink()
    run = build.run(stored_config.get_config(directory), directory)
    with pytest.raises(ValueError, match="data.name is own_losses:images, but there is no module"):
        run.data.open("train")


@pytest.mark.parametrize("field", user_code.FIELDS)
def test_no_field_of_a_stored_run_escapes_the_rule(stored, code, field):
    name = "own_losses:anything"
    config, directory = stored((name,) if field.endswith("metrics") else name, field)
    (code / "own_losses.py").write_text("changed = True\n")
    assert f"this run's {field} is {name}" in refused(config, directory)


EVIL = "import pathlib\npathlib.Path({marker!r}).touch()\n"
BUILDS = {mode.build: mode.name for mode in modes.ALL if mode.name != "import"}  # it reads no run
COMMANDS = [[f"--mode={name}"] for name in BUILDS.values()]
COMMANDS += [["--mode=benchmark", "--benchmark=train_step"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_mode_imports_what_a_stored_run_names_before_the_rule_is_checked(
    stored, code, tmp_path, command
):
    marker, field = tmp_path / "imported", "data.name" if "prepare" in command[0] else LOSS
    _, directory = stored("own_losses:simple", field, text=EVIL.format(marker=str(marker)))
    rewrite(directory, user_code={"own_losses:simple": "0123456789abcdef"})
    status, _, err = ddpm(f"--workdir={directory}", *command)
    assert status == 2 and "own_losses.py has changed since the run was trained" in err
    assert not marker.exists() and "own_losses" not in sys.modules
    ddpm(f"--workdir={directory}", *command, "--trust")
    assert marker.exists()


@pytest.mark.parametrize("make", [preflight.build_run, importing.build_run])
def test_what_asks_the_data_for_its_shape_first_checks_the_rule_before(
    tiny, tmp_path, monkeypatch, unchecked, make
):
    marker, directory = tmp_path / "imported", epath.Path(tmp_path / "run")
    directory.mkdir()
    (directory / "own_inside.py").write_text(EVIL.format(marker=str(marker)))
    monkeypatch.syspath_prepend(directory)
    tiny.data.name = "own_inside:images"
    with pytest.raises(ValueError, match="data.name is own_inside:images, whose source lies in"):
        make(tiny, directory, "local")
    assert not marker.exists()


def test_a_trusted_run_is_built_again_with_other_fields(stored, code, unchecked):
    _, directory = stored()
    (code / "own_losses.py").write_text(SIMPLE + "\n")
    run = build.run(stored_config.get_config(directory), directory, trust=True)
    doubting = run._replace(trust=False)
    assert preflight.apply_overrides(run, {"eval.batch_size": 16})
    assert not preflight.apply_overrides(doubting, {"eval.batch_size": 16})
    assert build.change(run, {"sample.count": 2}).sample.count == 2
    with pytest.raises(ValueError, match="own_losses.py has changed"):
        build.change(doubting, {"sample.count": 2})


def test_the_python_face_holds_to_the_rule(stored, code, unchecked, monkeypatch):
    reached, (_, directory) = [], stored()
    (code / "own_losses.py").write_text(SIMPLE + "\n")
    config = stored_config.get_config(directory)
    with pytest.raises(ValueError, match="own_losses.py has changed since .*trust=True"):
        loading.load(directory)
    with pytest.raises(ValueError, match="own_losses.py has changed since .*trust=True"):
        training.train(config, directory)
    assert "own_losses" not in sys.modules
    execute.check_and_build(training.make_command(config, directory, {}, trust=True))
    monkeypatch.setattr(
        loading.state, "choose_step", lambda run, step: reached.append(run) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):  # there is no checkpoint to read
        loading.load(directory, trust=True)
    assert reached[0].trust


def test_a_classifier_from_elsewhere_is_held_to_the_rule_too(stored, code, digits, unchecked):
    config, directory = stored("own_losses:v", "diffusion.output", "classifier")
    (code / "own_losses.py").write_text("from ddpm_jax.parameterization import eps as v\n")
    run, trusting = (
        build.run(tiny_config(digits), directory / "elsewhere", trust=trust)
        for trust in (False, True)
    )
    with pytest.raises(
        ValueError, match="this run's diffusion.output is own_losses:v, and own_los"
    ):
        guide.load_classifier(run, directory)
    with pytest.raises(ValueError, match="holds no classifier"):
        guide.load_classifier(trusting, directory)


def test_processes_compare_the_code_that_their_config_names(stored, code):
    _, directory = stored()

    def shared():
        return execute.fingerprint(command_line.parse(["main", f"--workdir={directory}"]))

    before = shared()
    assert shared() == before
    (code / "own_losses.py").write_text(SIMPLE + "\n")
    after = shared()
    assert {key for key in before if before[key] != after[key]} == {"own_losses:simple's checksum"}
