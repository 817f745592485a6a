"""Fields that fit themselves: what "auto" becomes, and that a resume takes the stored choice."""

import math

import pytest
from conftest import load
from etils import epath

from ddpm_jax.config import auto, build
from ddpm_jax.run import record


def built(config, tmp_path, size, channels=3, **fields):
    config.update_from_flattened_dict(fields)
    return build.run(config, epath.Path(tmp_path), image_kind=((size, size, channels), 256))


@pytest.mark.parametrize("size, height", [(64, 16), (96, 12), (128, 16), (224, 14), (16, 16)])
def test_attention_is_at_the_height_nearest_to_16(size, height, tmp_path):
    run = built(load("image_folder"), tmp_path, size, **{"data.image_size": size})
    assert run.model.network.attention == run.config["model"]["attention"] == (height,)
    heights = [size // 2**i for i in range(5)]
    distance = abs(math.log(height / 16))
    assert all(abs(math.log(other / 16)) > distance for other in heights if other != height)


@pytest.mark.parametrize("heights", [(16,), (24, 16)])
def test_heights_that_no_level_has_are_refused_and_those_that_it_has_are_named(heights, tmp_path):
    fields = {"data.image_size": 96, "model.attention": heights}
    with pytest.raises(ValueError, match=r"heights are \[96, 48, 24, 12, 6\]"):
        built(load("image_folder"), tmp_path, 96, **fields)


def test_a_run_stored_with_a_height_that_no_level_has_opens_and_has_no_attention_there(
    tiny, tmp_path
):
    """Earlier versions took such heights in silence."""
    tiny.model.attention = (16,)
    record.write(epath.Path(tmp_path), tiny.to_dict(), (8, 8, 1), 17)
    run = build.run(tiny, epath.Path(tmp_path))
    assert run.config["model"]["attention"] == (16,)  # as the codec's hash of the model has it
    tiny.model.attention = (32,)
    with pytest.raises(ValueError, match=r"heights are \[8\]"):
        build.run(tiny, epath.Path(tmp_path))


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar10_improved", "image_folder"])
@pytest.mark.parametrize("T", [10, 50])
def test_another_T_alone_is_a_run(name, T, tmp_path):
    """Before, train.grid.steps, sample.steps and eval.steps were complained of in turn."""
    size, channels = (8, 1) if name == "digits" else (32, 3)
    run = built(load(name), tmp_path, size, channels, **{"diffusion.schedule.T": T})
    grid = T if name == "digits" else min(20, T)
    steps = run.config["train"]["grid"]["steps"], run.config["sample"]["steps"]
    assert (*steps, run.config["eval"]["steps"]) == (grid, T, T)
    assert len(run.sample.chain.times) == T + 1 and len(run.train.grid.chain.times) == grid + 1
    assert len(run.eval.strata.size) == T


def test_a_number_of_one_s_own_stands_in_the_place_of_auto(tmp_path):
    run = built(load("digits"), tmp_path, 8, 1, **{"sample.steps": 7, "train.grid.steps": 3})
    assert run.config["sample"]["steps"] == 7 and run.config["train"]["grid"]["steps"] == 3
    with pytest.raises(ValueError, match="sample.steps is 'many'; it must be int"):
        built(load("digits"), tmp_path, 8, 1, **{"sample.steps": "many"})


@pytest.mark.parametrize("typed, heights", [(("auto",), (16,)), (32, (32,)), ([8, 4], (8, 4))])
def test_attention_as_the_command_line_reads_it(typed, heights, tmp_path):
    """A tuple's "auto", and a height or a list without brackets where the config has "auto"."""
    name = "cifar10" if isinstance(typed, tuple) else "image_folder"
    run = built(load(name), tmp_path, 32, **{"data.image_size": 32, "model.attention": typed})
    assert run.model.network.attention == heights


def test_a_resume_takes_the_stored_choice(tmp_path):
    """Whatever the rule of a later version chooses."""
    first = built(load("image_folder"), tmp_path, 96, **{"data.image_size": 96})
    stored = {**first.config, "model": {**first.config["model"], "attention": (24, 12)}}
    stored["train"] = {**stored["train"], "grid": {**stored["train"]["grid"], "steps": 5}}
    record.write(epath.Path(tmp_path), stored, (96, 96, 3), 256)
    config = load("image_folder")
    config.data.image_size = 96
    record.check_same_run(epath.Path(tmp_path), config.to_dict())
    again = build.run(config, epath.Path(tmp_path))
    assert again.model.network.attention == (24, 12) and len(again.train.grid.chain.times) == 6
    record.check_same_run(epath.Path(tmp_path), again.config)


def test_a_section_that_is_missing_or_no_section_is_left_to_the_checks_of_sections():
    assert auto.replace({"train": 3}, {"train.grid.steps": 5, "sample.steps": 5}, None) == {
        "train": 3
    }
