"""Fields that fit themselves: what "auto" becomes, and that a resume takes the stored choice."""

import math

import jax
import pytest
from conftest import load
from etils import epath

from ddpm_jax.cli import command_line
from ddpm_jax.config import auto, build
from ddpm_jax.config import data as data_section
from ddpm_jax.networks import unet
from ddpm_jax.run import model as models
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


def test_a_resume_takes_the_stored_choices_and_says_nothing_of_them(tmp_path, capsys):
    config = load("image_folder", "laptop")
    first = built(config, tmp_path, 32).config
    first["model"]["channels"], first["optimizer"]["ema_decay"] = 48, 0.5
    record.write(epath.Path(tmp_path), first, (32, 32, 3), 256)
    capsys.readouterr()
    with config.ignore_type():
        config.train.steps = 8000
    again = build.run(config, epath.Path(tmp_path))
    assert again.model.network.channels == 48 and again.config["optimizer"] == first["optimizer"]
    assert not capsys.readouterr().out


def test_a_resume_takes_the_stored_heights_and_steps(tmp_path):
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
    choices = dict.fromkeys(("train.grid.steps", "sample.steps"), lambda: auto.Choice(5))
    assert auto.replace({"train": 3}, choices, None) == {"train": 3}


@pytest.mark.parametrize("row, parameters", [("laptop", 1_113_955), ("gpu", None)])
def test_a_row_is_a_run_and_says_what_it_chose_and_why(
    unchecked, row, parameters, tmp_path, capsys
):
    size = 32 if row == "laptop" else 64
    run = built(load("image_folder", row), tmp_path, size)
    said = capsys.readouterr().out.splitlines()
    fields = ("model.channels", "model.multipliers", "model.attention")
    fields += ("optimizer.warmup", "optimizer.ema_decay")
    flat = record.flatten(run.config)
    for field in fields:
        value = tuple(flat[field]) if isinstance(flat[field], list) else flat[field]
        (line,) = [line for line in said if line.startswith(f"{field} {value}: ")]
    assert len(said) == len(fields) and "auto" not in [flat[field] for field in fields]
    if parameters:  # "about a million"
        tree = jax.eval_shape(lambda: models.initial(run.model, jax.random.key(0)))
        assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) == parameters


def test_the_argument_is_a_row_and_none_is_the_paper_s_recipe():
    assert load("image_folder").to_dict() == load("image_folder", "tpu").to_dict()
    assert load("image_folder").optimizer.to_dict() == load("cifar10").optimizer.to_dict()
    with pytest.raises(ValueError, match="image_folder.py has no row 'phone'; .* laptop, gpu, tpu"):
        load("image_folder", "phone")


@pytest.mark.parametrize("steps", [24, 60, 1000, 4000, 30_000, 120_000, 800_000])
def test_at_the_end_an_ema_that_fits_itself_has_forgotten_the_initial_weights(steps):
    """And is the paper's for the paper's number of steps."""
    decay, warmup = auto.choose_ema_decay(steps).value, auto.choose_warmup(steps).value
    assert decay**steps < 1e-4 and warmup <= steps // 25
    if steps == 800_000:
        assert (warmup, decay) == (5000, 0.9999)
    else:
        assert decay ** (steps // 24) > 0.3  # it is not of the last steps alone


def images(size, count=None, on_cpu=False, width=None):
    return auto.Images((size, width or size, 3), count, on_cpu)


def test_for_the_paper_s_images_the_network_is_the_paper_s():
    assert auto.choose_channels(images(32, 50_000)).value == load("cifar10").model.channels
    assert auto.choose_multipliers(images(32)).value == load("cifar10").model.multipliers
    assert auto.choose_multipliers(images(64)).value == load("image_folder").model.multipliers


def test_more_pictures_never_make_a_narrower_network_and_a_cpu_has_the_narrowest():
    counts = [1, 200, 999, 1000, 9999, 10_000, 10**6, None]  # None: unknown
    widths = [auto.choose_channels(images(64, count)).value for count in counts]
    assert widths == sorted(widths) and len(set(widths)) == 3 and widths[-1] == widths[-2]
    assert not any(width % 32 for width in widths)  # the paper's groups
    on_cpu = {auto.choose_channels(images(64, count, on_cpu=True)).value for count in counts}
    assert on_cpu == {32}


@pytest.mark.parametrize("on_cpu", [False, True])
@pytest.mark.parametrize("size", [1, 7, 8, 12, 28, 32, 48, 64, 96, 100, 128, 224, 256])
def test_levels_halve_the_images_as_often_as_can_be(size, on_cpu):
    levels = auto.choose_multipliers(images(size, on_cpu=on_cpu)).value
    unet.check_size(size, size, len(levels))
    lowest, least = size >> len(levels) - 1, 8 if on_cpu else 4
    assert lowest >= min(size, least) and (lowest % 2 or lowest // 2 < least)
    below = [size >> i for i in range(1, len(levels))]
    assert levels == (1, *(1 if height >= 128 else 2 for height in below))


def test_images_that_cannot_be_halved_to_where_attention_is_affordable_are_refused(tmp_path):
    with pytest.raises(ValueError, match="images of 65x65 cannot be halved .* multiple of 16"):
        auto.choose_multipliers(images(65))
    assert len(auto.choose_multipliers(images(64, width=40)).value) == 4  # 40 is odd after three
    fields = {"data.image_size": 65, "model.multipliers": (1,), "model.attention": ()}
    built(load("image_folder", "laptop"), tmp_path, 65, **fields)  # who says so may


def test_pictures_are_counted_without_being_read(tmp_path):
    """As preflight has it: the network is then the one that will be trained."""
    (tmp_path / "pictures").mkdir()
    for name in range(40):
        (tmp_path / "pictures" / f"{name}.png").write_bytes(b"none")
    data = load("image_folder", "gpu").data
    data.path, data.data_dir = str(tmp_path / "pictures"), str(tmp_path)
    assert data_section.data_source(data.to_dict()).count() == 38  # 95 %
    data.path = str(tmp_path / "nowhere")
    assert data_section.data_source(data.to_dict()).count() is None


def test_auto_may_be_typed_in_the_place_of_any_value(tmp_path, capsys):
    fields = ("model.channels", "model.multipliers", "model.attention")
    fields += ("optimizer.warmup", "optimizer.ema_decay")
    typed = [f"--config.{field}=auto" for field in fields]
    command = command_line.parse(["main", "--config=digits", *typed])
    run = build.run(command.config, epath.Path(tmp_path), image_kind=((8, 8, 1), 17))
    assert run.config["model"]["channels"] == 32 and run.config["optimizer"]["warmup"] == 96
    assert len(capsys.readouterr().out.splitlines()) == len(fields)
    command = command_line.parse(["main", "--config=digits", "--config.train.batch_size=auto"])
    with pytest.raises(ValueError, match="train.batch_size is 'auto'; it must be int"):
        build.run(command.config, epath.Path(tmp_path), image_kind=((8, 8, 1), 17))
