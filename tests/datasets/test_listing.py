"""Folders that are unlike a plain folder of pictures: links, pipes, odd names, runs inside."""

import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from ddpm_jax.datasets import class_names, image_folder, splits
from ddpm_jax.datasets.listing import list_files


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(os.fsencode(path), "PNG")
    return path


def prepared(folder, data_dir, skip=False, **options):
    root, data_dir = epath.Path(folder), epath.Path(data_dir)
    directory = image_folder.prepare(root, data_dir, 8, 3, 255, skip, **options)
    return tfds.builder_from_directory(directory)


def paths(builder):
    return sorted(record["path"].decode() for record in builder.as_data_source("train"))


def names(builder):
    return builder.info.features["label"].names


def test_every_real_file_is_read_once_whatever_links_there_are(tmp_path, capsys):
    folder = tmp_path / "pictures"
    for i in range(3):
        save(folder / "sub" / f"{i}.png", i)
    save(tmp_path / "elsewhere" / "x.png", 7)
    (folder / "self").symlink_to(".")
    (folder / "a-link").symlink_to("sub")
    (folder / "a.png").symlink_to("sub/0.png")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(folder)
    builder = prepared(folder, tmp_path / "data")
    assert paths(builder) == ["more/x.png", "sub/0.png", "sub/1.png", "sub/2.png"]
    assert names(builder) == ["more", "sub"]
    said = capsys.readouterr().out
    assert "left out a-link, a link to something already listed, and 3 more" in said


def test_what_is_not_a_file_is_left_out_and_said(tmp_path, capsys):
    """A pipe would be waited for, for ever."""
    folder = tmp_path / "pictures"
    save(folder / "a.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "one.png").symlink_to("other.png")
    (folder / "other.png").symlink_to("one.png")
    assert paths(prepared(folder, tmp_path / "data")) == ["a.png"]
    assert "left out pipe.png, a dangling link, a pipe or a device" in capsys.readouterr().out


def test_names_that_are_not_utf_8_are_read_and_printed_escaped(tmp_path, capsys):
    folder = tmp_path / "pictures"
    save(folder / "cl\udce9" / "caf\udce9.png")
    save(folder / "ok" / "line\nbreak.png", 1)
    (folder / "ok" / "bad\udcff.png").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"bad\\xff.png cannot be read: the file is empty;"):
        prepared(folder, tmp_path / "data")
    builder = prepared(folder, tmp_path / "data", skip=True)
    assert paths(builder) == [r"cl\xe9/caf\xe9.png", r"ok/line\nbreak.png"]
    assert names(builder) == [r"cl\xe9", "ok"]
    assert r"skipped " in capsys.readouterr().out


def test_a_file_that_cannot_be_opened_is_named_or_skipped(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "pictures"
    save(folder / "a.png")
    save(folder / "b.png", 1)
    kind = type(epath.Path(folder))
    opened, read = kind.open, kind.read_bytes

    def refusing(function):
        def called(path, *args, **options):
            if path.name == "b.png":
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **options)

        return called

    monkeypatch.setattr(kind, "open", refusing(opened))
    monkeypatch.setattr(kind, "read_bytes", refusing(read))
    with pytest.raises(RuntimeError, match=r"b.png cannot be read: Permission denied; remove"):
        prepared(folder, tmp_path / "data")
    assert paths(prepared(folder, tmp_path / "data", skip=True)) == ["a.png"]
    monkeypatch.undo()
    assert paths(prepared(folder, tmp_path / "data", skip=True)) == ["a.png", "b.png"]


def test_a_folder_that_may_not_be_listed_is_named_or_skipped(tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    save(folder / "a.png")
    save(folder / "sub" / "b.png", 1)
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ValueError, match="pictures/sub may not be read; change its permissions"):
        prepared(folder, tmp_path / "data")
    assert paths(prepared(folder, tmp_path / "data", skip=True)) == ["a.png"]


def test_identical_pictures_are_counted(tmp_path, capsys):
    folder = tmp_path / "pictures"
    for name, seed in {"a": 0, "b": 1, "c": 0, "d": 0}.items():
        save(folder / f"{name}.png", seed)
    prepared(folder, tmp_path / "data")
    said = capsys.readouterr().out
    assert "2 of 4 pictures repeat another one, as " in said and "held out" in said


def test_runs_and_prepared_data_inside_are_left_out(tmp_path, capsys):
    folder = tmp_path / "pictures"
    save(folder / "a.png")
    for run in ("runs/one", "two"):
        save(folder / run / "samples" / "2-grid.png")
        (folder / run / "config.json").write_text(json.dumps({"config": {}, "images": {}}))
    save(folder / "models" / "b.png", 1)  # another program's
    (folder / "models" / "config.json").write_text("{}")
    (folder / "link").symlink_to("two")
    first = prepared(folder, folder / "data")
    assert paths(first) == ["a.png", "models/b.png"]
    assert "left out two, the folder of a run, or of prepared data, and 1 more" in (
        capsys.readouterr().out
    )
    assert prepared(folder, folder / "data").data_dir == first.data_dir


def test_prepared_data_beside_the_pictures_are_not_counted_as_other_files(tmp_path):
    """The count is compared when a preparation resumes."""
    save(tmp_path / "a.png")
    first, second = (prepared(tmp_path, tmp_path) for _ in range(2))
    assert first.data_dir == second.data_dir
    pictures = image_folder.find_pictures(
        epath.Path(tmp_path), excluded=image_folder.own_folders(epath.Path(tmp_path))
    )
    assert pictures.others == 0


def test_the_folder_of_a_run_holds_no_pictures_of_the_user(tmp_path):
    save(tmp_path / "run" / "a.png")
    (tmp_path / "run" / "config.json").write_text(json.dumps({"config": {}, "images": {}}))
    with pytest.raises(ValueError, match="run is the folder of a run"):
        prepared(tmp_path / "run", tmp_path / "data")


def test_hidden_files_are_not_listed(tmp_path):
    for name in (".hidden.png", ".folder/a.png", "b.png"):
        save(tmp_path / name)
    assert list_files(epath.Path(tmp_path)).files == ["b.png"]


def test_labels_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("1", "10", "11", "2", "cat"):
        save(tmp_path / "pictures" / name / "a.png", len(name))
    builder = prepared(tmp_path / "pictures", tmp_path / "data")
    assert names(builder) == ["1", "2", "10", "11", "cat"]


@pytest.mark.parametrize(
    "one, other", [("cat", "cat "), ("caf\u00e9", "cafe\u0301"), ("a", "a\u200b")]
)
def test_classes_that_look_alike_are_refused(tmp_path, one, other):
    for name in (one, other):
        save(tmp_path / "pictures" / name / "a.png")
    with pytest.raises(ValueError, match="look alike; rename or merge them") as told:
        prepared(tmp_path / "pictures", tmp_path / "data")
    assert ascii(one) in str(told.value) and ascii(other) in str(told.value)


def test_a_stray_picture_is_named_and_keeps_a_labelled_run_from_starting(tmp_path, capsys):
    folder = tmp_path / "pictures"
    for name in ("cat/a.png", "dog/b.png", "stray.png"):
        save(folder / name, len(name))
    assert names(prepared(folder, tmp_path / "data")) == ["all"]
    assert "no labels: stray.png lies beside class folders" in capsys.readouterr().out
    root, data_dir = epath.Path(folder), epath.Path(tmp_path / "data")
    image_folder.check(root, data_dir, {}, classes=0)
    with pytest.raises(ValueError, match="stray.png lies beside the class folders"):
        image_folder.check(root, data_dir, {}, classes=2)


@pytest.mark.parametrize(
    "split, total, count, smallest",
    [
        ("train", 7, 7, 1),
        ("train[:95%]", 10, 10, 1),
        ("train[95%:]", 10, 0, 11),
        ("train[95%:]", 40, 2, 11),
        ("train[75%:]", 40, 10, 3),
        ("train[-3:]", 40, 3, 3),
        ("train[:5]+train[-3:]", 40, 8, 5),
    ],
)
def test_the_images_of_a_split_are_counted(split, total, count, smallest):
    assert splits.count(split, total) == count
    assert splits.smallest(split) == smallest


def test_an_empty_split_is_found_before_anything_is_prepared():
    fields = {"data.split": "train[:95%]", "data.held_out": "train[95%:]"}
    splits.check(fields, 11, "here")
    with pytest.raises(ValueError, match=r"held_out 'train\[95%:\]' holds none of the 10 .* 11 or"):
        splits.check(fields, 10, "here")


def test_a_name_s_label_is_found_or_the_nearest_name_is_suggested():
    known = [f"class {i}" for i in range(100)]
    assert class_names.label_of("class 42", known) == 42
    with pytest.raises(ValueError, match="did you mean class 42"):
        class_names.label_of("clas 42", known)
    with pytest.raises(ValueError, match="the labels are 0: class 0, .* 99: class 99") as told:
        class_names.label_of("zebra", known)
    assert len(str(told.value)) < 300
