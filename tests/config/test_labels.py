"""Labels by name, and the names that a run stores."""

import json

import numpy as np
import pytest
from conftest import load, tiny_config
from etils import epath
from PIL import Image
from support import loud
from support.command import ddpm

from ddpm_jax.cli import command_line
from ddpm_jax.config import build
from ddpm_jax.datasets import library
from ddpm_jax.datasets.expected import Expected
from ddpm_jax.run import record


@pytest.fixture
def folder(tmp_path):
    """44 pictures in the class folders 1..11; each picture is as gray as its class's number."""
    for number in range(1, 12):
        (tmp_path / "pictures" / str(number)).mkdir(parents=True)
        for i in range(4):
            pixels = np.full((8, 8, 3), 10 * number + i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / str(number) / f"{i}.png")
    return tmp_path / "pictures"


def folder_config(folder, classes=11):
    config = load("image_folder")
    data_dir = str(folder.parent / "data")
    config.data.update(path=str(folder), data_dir=data_dir, image_size=8)
    config.model.update(channels=4, multipliers=(1,), blocks=1, attention=(), classes=classes)
    config.parallel.devices = 1
    return config


def stored(config, directory, **changes):
    """The run of a config and a folder in which an earlier one has left its config.json."""
    run = build.run(config, epath.Path(directory))
    record.write(run.directory, run.config, run.model.shape, run.model.levels, run.labels)
    path = run.directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return build.run(config, epath.Path(directory))


def label_of_gray(source):
    """What label each class's number has."""
    rows = np.arange(source.count)
    grays = source.read(rows)[:, 0, 0, 0] // 10
    return dict(
        sorted({(int(n), int(label)) for n, label in zip(grays, source.labels(rows), strict=True)})
    )


def test_a_run_keeps_the_order_of_labels_that_it_was_trained_with(folder, tmp_path):
    config = folder_config(folder)
    new = stored(config, tmp_path / "new")
    assert new.labels == tuple(str(n) for n in range(1, 12))
    assert label_of_gray(new.data.open("train")) == {n: n - 1 for n in range(1, 12)}
    path = tmp_path / "new" / "config.json"
    older = json.loads(path.read_text())
    del older["labels"]  # as before names were stored
    path.write_text(json.dumps(older))
    again = build.run(config, epath.Path(tmp_path / "new"))
    names = sorted(str(n) for n in range(1, 12))
    assert label_of_gray(again.data.open("train")) == {int(name): i for i, name in enumerate(names)}


def test_a_run_without_labels_stores_none_and_finds_its_data_again(folder, tmp_path):
    run = stored(folder_config(folder, classes=0), tmp_path / "run")
    assert run.labels == ()
    data_sets = {path.name for path in (tmp_path / "data" / "image_folder").iterdir()}
    run.data.open("train")
    assert {path.name for path in (tmp_path / "data" / "image_folder").iterdir()} == data_sets


def test_other_labels_than_the_run_s_are_refused(folder, tmp_path):
    run = stored(folder_config(folder), tmp_path / "run")
    (folder / "3").rename(folder / "three")
    with pytest.raises(ValueError, match="run's labels are 0: 1, .* 10: 11; those of .* 10: three"):
        run.data.open("train")


def test_a_label_may_be_named(folder, tmp_path):
    config = folder_config(folder)
    (folder / "3").rename(folder / "cat")
    for label in ("cat", " cat "):
        with config.ignore_type():
            config.sample.label = label
        chain = build.run(config, epath.Path(tmp_path / "run")).sample.chain
        assert (chain.label, chain.label_name) == (10, "cat")
        assert chain.name.endswith("-label10")
    with config.ignore_type():
        config.sample.label = 10
    chain = build.run(config, epath.Path(tmp_path / "run")).sample.chain
    assert (chain.label, chain.label_name) == (10, "cat")
    with config.ignore_type():
        config.sample.label = "cart"
    with pytest.raises(ValueError, match="sample.label is 'cart'; did you mean cat?"):
        build.run(config, epath.Path(tmp_path / "run"))


def test_images_unlike_a_run_s_are_refused(tiny, tmp_path):
    """A data set of the same name in another data_dir may have other images."""
    run = build.run(tiny, epath.Path(tmp_path))
    assert run.data.open("train").shape == (8, 8, 1)
    for shape, levels in ((8, 12, 1), 17), ((8, 8, 3), 17), ((8, 8, 1), 256):
        other = run.data._replace(expected=Expected(shape, levels))
        with pytest.raises(ValueError, match="but those of 'digits' are 8x8x1 with 17 grey levels"):
            other.open("train")


def test_the_names_of_a_stored_run_are_those_of_the_command_line(digits, loud_run, tmp_path):
    run = loud_run("conditional")
    path = tmp_path / "conditional" / "config.json"
    names = [f"number {n}" for n in range(10)]
    path.write_text(json.dumps({**json.loads(path.read_text()), "labels": names}))
    args = ["", f"--workdir={run.directory}", "--mode=sample"]
    for typed, label in (("number 7", 7), ("7", 7), (" -1 ", -1)):
        command = command_line.parse([*args, f"--config.sample.label={typed}"])
        chain = build.run(command.config, run.directory).sample.chain
        assert (chain.label, chain.label_name) == (label, "number 7" if label == 7 else "")
    status, _, err = ddpm(*args[1:], "--config.sample.label=number")
    assert status == 2 and "sample.label is 'number'; did you mean number" in err


def test_tfds_s_names_are_a_run_s(digits, tmp_path):
    config = loud.config(tiny_config(digits), "conditional")
    assert build.run(config, epath.Path(tmp_path)).labels == tuple(map(str, range(10)))
    assert library.label_names({}) == ()
