"""CelebA-HQ and LSUN: small ones of their forms, prepared and trained on by real commands."""

import io
import itertools
import os
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import CHEAP, ROOT
from etils import epath
from PIL import Image
from support import sources
from support.command import ddpm

from ddpm_jax.datasets import library, shards
from ddpm_jax.datasets.encoding import encode_png


@pytest.fixture(scope="session")
def church(tmp_path_factory):
    folder = tmp_path_factory.mktemp("church_outdoor_train_lmdb")
    return folder, sources.lsun(folder)


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    path = tmp_path_factory.mktemp("celeb") / "data256x256.tar"
    return path, sources.celeb_a_hq(path)


def records(name, data_dir):
    builder = tfds.builder(name, data_dir=str(data_dir))
    assert builder.is_prepared()
    return list(builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()}))


def pixels(record):
    return np.asarray(Image.open(io.BytesIO(record["image"])))


def test_lsun_is_cropped_and_resized_as_stylegan2_did_in_the_lmdb_s_order(church, tmp_path, capsys):
    folder, contents = church
    library.prepare_from_source("lsun_church256", str(tmp_path), str(folder))
    found = records("lsun_church256", tmp_path)
    said = capsys.readouterr().out
    assert said.count("skipped ") == 2 and "2 of 30 images could not be read" in said
    broken = [key for key, content in contents.items() if len(content) <= 300]
    assert [record["id"] for record in found] == [key for key in contents if key not in broken]
    for record in found:
        image = np.asarray(Image.open(io.BytesIO(contents[record["id"]])).convert("RGB"))
        height, width, _ = image.shape
        crop = min(height, width)
        square = image[
            (height - crop) // 2 : (height + crop) // 2, (width - crop) // 2 : (width + crop) // 2
        ]
        expected = Image.fromarray(square).resize((256, 256), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(pixels(record), np.asarray(expected))
    builder = tfds.builder("lsun_church256", data_dir=str(tmp_path))
    assert builder.info.metadata["skipped"] == 2


def test_celeba_hq_s_files_are_kept_as_they_are_under_tfds_s_name(faces, tmp_path):
    path, contents = faces
    library.prepare_from_source("celeb_a_hq/256", str(tmp_path), str(path))
    found = records("celeb_a_hq/256", tmp_path)
    assert {record["image/filename"].decode(): record["image"] for record in found} == contents
    assert "tensorflow" not in sys.modules


def test_what_is_not_there_says_how_to_make_it(tmp_path):
    for name in library.FROM_SOURCE:
        with pytest.raises(ValueError, match=r"ddpm prepare CONFIG --source=\w+"):
            library.open_builder(name, str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, make, words",
    [
        ("lsun_cat256", lambda path: path.mkdir(), "not a folder with a data.mdb"),
        ("celeb_a_hq/256", lambda path: path.mkdir(), "is not a .tar archive"),
        ("celeb_a_hq/256", lambda path: path.write_bytes(b"x" * 2000), "is not a .tar archive"),
        ("digits", lambda path: path.mkdir(), "takes no --source"),
    ],
)
def test_a_wrong_source_is_refused_and_nothing_is_written(tmp_path, name, make, words):
    make(tmp_path / "source")
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=words):
        library.prepare_from_source(name, str(tmp_path / "data"), str(tmp_path / "source"))
    assert not list((tmp_path / "data").iterdir())


def test_a_damaged_lmdb_is_refused(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"x" * 8192)
    with pytest.raises(ValueError, match="is not an LMDB"):
        library.prepare_from_source("lsun_cat256", str(tmp_path), str(tmp_path))


def test_a_face_of_another_size_is_named(tmp_path):
    with tarfile.open(tmp_path / "faces.tar", "w") as tar:
        content = encode_png(np.zeros((64, 64, 3), np.uint8)).getvalue()
        member = tarfile.TarInfo("small.png")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    with pytest.raises(RuntimeError, match=r"small.png .* has shape \(64, 64, 3\)"):
        library.prepare_from_source("celeb_a_hq/256", str(tmp_path), str(tmp_path / "faces.tar"))


def test_nobody_goes_on_with_another_source_s_shards(church, tmp_path):
    other = shards.Recipe(
        name="lsun_church256",
        version="1.0.0",
        source="another LMDB",
        features=None,
        count=30,
        example=None,
    )
    shards.record_source(epath.Path(tmp_path / "lsun_church256" / "1.0.0.unfinished"), other)
    with pytest.raises(ValueError, match="begun with 30 items of another .*delete it to start"):
        library.prepare_from_source("lsun_church256", str(tmp_path), str(church[0]))


PREPARE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from ddpm_jax import main
from ddpm_jax.datasets import shards
shards.SHARD = 4
sys.exit(main.main(sys.argv))
"""


def command(config, data_dir, *more, root=ROOT):
    config = f"--config={root}/configs/{config}.py"
    return [
        sys.executable,
        "-c",
        PREPARE,
        str(ROOT),
        "--mode=prepare",
        config,
        f"--config.data.data_dir={data_dir}",
    ] + [*more]


@pytest.mark.parametrize(
    "config, more, status, words",
    [
        ("lsun_cat256", ["--source=nowhere"], 2, "nowhere is not a folder with a data.mdb"),
        ("lsun_cat256", [], 2, "prepare CONFIG --source=cat"),
        ("lsun_cat256", ["--sauce=x"], 2, "unknown flag --sauce; did you mean --source?"),
        ("digits", [], 0, "digits test: 360 images 8x8x1"),
    ],
)
def test_the_command_says_what_it_did_or_what_is_wrong(tmp_path, config, more, status, words):
    config = f"--config={ROOT}/configs/{config}.py"
    data_dir = tmp_path / "made" if status == 0 else tmp_path
    found, out, err = ddpm("--mode=prepare", config, f"--config.data.data_dir={data_dir}", *more)
    assert found == status and words in (err if status else out)
    assert "Traceback" not in err


def test_the_old_name_of_the_command_still_works_and_says_the_new_one(tmp_path):
    args = [f"--config={ROOT}/configs/digits.py", f"--config.data.data_dir={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_jax.datasets.prepare", *args],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "digits test: 360 images 8x8x1" in done.stdout
    assert "python -m ddpm_jax.main --mode=prepare" in done.stderr


def test_with_no_room_it_says_so_and_goes_on_later(faces, tmp_path):
    args = command("celebahq256", tmp_path, f"--source={faces[0]}")
    limited = ["bash", "-c", 'ulimit -f 300; exec "$@"', "bash", *args]  # 300 kB a file
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 1 and "Free some space; then the same command resumes" in done.stderr
    subprocess.run(args, check=True)
    assert len(records("celeb_a_hq/256", tmp_path)) == 30


@pytest.mark.slow
def test_two_that_prepare_one_folder_wait_for_each_other(church, tmp_path):
    """Three real processes that race for one folder."""
    args = command("lsun_church256", tmp_path, f"--source={church[0]}")
    processes = [
        subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert sum("waiting for it to finish" in text for text in said) >= 1
    assert sum("images could not be read" in text for text in said) == 1
    assert len(records("lsun_church256", tmp_path)) == 28


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lsun_church256", "celebahq256", "image_folder"])
def test_killed_it_goes_on_with_the_same_result_and_trains(church, faces, tmp_path, name):
    """SIGKILL can be had only by a real process, and a network at 256x256 only by compiling one."""
    if name == "image_folder":
        folder = tmp_path / "pictures"
        folder.mkdir()
        for key, content in faces[1].items():
            (folder / epath.Path(key).name).write_bytes(content)
        more = [f"--config.data.path={folder}", "--config.data.image_size=256"]
    else:
        more = [f"--source={church[0] if name == 'lsun_church256' else faces[0]}"]
    for place in ("killed", "whole"):
        (tmp_path / place).mkdir()
    args = command(name, tmp_path / "killed", *more)
    for kept, number in ((1, signal.SIGKILL), (3, signal.SIGTERM), (5, signal.SIGKILL)):
        process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in itertools.count():
            if len(list((tmp_path / "killed").rglob("*.unfinished/[a-z]*-of-*"))) >= kept:
                break
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.0005)
        process.send_signal(number)
        said = process.communicate()[0]
        if number == signal.SIGTERM:
            assert process.returncode == 0 and "run the same command again to continue" in said
        assert process.returncode in (0, -number)
    assert not list((tmp_path / "killed").rglob("dataset_info.json"))
    for place in ("killed", "whole"):
        subprocess.run(command(name, tmp_path / place, *more), check=True)

    killed, whole = (everything(tmp_path / place) for place in ("killed", "whole"))
    assert killed == whole and len(whole) == (28 if name == "lsun_church256" else 30)
    train(name, tmp_path, [option for option in more if "--source" not in option])


def everything(data_dir):
    """All records, in their order: not the files, where protobuf orders a record's fields anyhow."""
    (info,) = data_dir.rglob("dataset_info.json")
    encoded = {"image": tfds.decode.SkipDecoding()}
    return list(tfds.builder_from_directory(info.parent).as_data_source("train", decoders=encoded))


def train(name, tmp_path, more):
    """Two steps at 256x256 of the config's network, narrow, on what was prepared."""
    options = {
        "data.data_dir": tmp_path / "whole",
        "model.channels": 4,
        "model.blocks": 1,
        "train.steps": 2,
        "train.batch_size": 2,
        "train.log_every": 1,
        "train.sample_every": 2,
        "train.grid.steps": 1,
        "train.grid.count": 2,
        "eval.images": 0,
    }
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_jax.main", f"--config={ROOT}/configs/{name}.py"]
        + [f"--config.{field}={value}" for field, value in options.items()]
        + [*more, f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": CHEAP},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stdout
    grid = next((tmp_path / "run" / "samples").glob("2-*grid.png"))
    assert Image.open(grid).size == (256 + 16 + 256, 256)
