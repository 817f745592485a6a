"""--mode=calibrate, compress, decompress, inspect: what a user meets."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from support.codec_command import codec, folder_of_files  # noqa: F401, a fixture
from support.command import ddpm

from ddpm_jax.codec import archive_header, file_header

# A process with other XLA flags and threads than this one, much as on another machine. Reports other files it opens.
ALONE = """
import sys
from pathlib import Path
allowed = [Path(each).resolve() for each in sys.argv[1].split(":")]
wrong = []
def opened(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        name = args[0] if isinstance(args[0], str) else args[0].decode()
        path = Path(name).resolve()
        is_hook = name in sys.path and not path.exists()  # an editable install's entry names no file
        if not is_hook and not any(path.is_relative_to(each) for each in allowed):
            wrong.append(str(path))
sys.addaudithook(opened)
sys.path.insert(0, sys.argv[2])
sys.argv = ["main", *sys.argv[3:]]
from ddpm_jax import main
status = main.main(sys.argv)
print("wrong", wrong)
sys.exit(status or bool(wrong))
"""
SYSTEM = ("/usr", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev")


@pytest.mark.slow
@pytest.mark.parametrize("files", ["files", "archive"])
def test_a_decoder_with_only_file_and_checkpoint_returns_every_pixel(folder, tmp_path, files):
    """Its environment is empty, the pictures are gone, and it opens no other file."""
    originals = {path.stem: np.asarray(Image.open(path)) for path in folder.glob("pictures/*.png")}
    for name in ("config.json", "checkpoints", "codec"):
        source = folder / "run" / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (tmp_path / "run").mkdir(exist_ok=True)
        copy(source, tmp_path / "run" / name)
    shutil.copytree(folder / files, tmp_path / "files")
    hidden = folder / "pictures"
    hidden.rename(folder / "away")
    try:
        allowed = ":".join(
            [str(tmp_path), *map(str, ROOT.glob("ddpm_jax*")), sys.prefix, sys.base_prefix, *SYSTEM]
        )
        flags = [f"--workdir={tmp_path}/run", "--mode=decompress"]
        flags += [f"--input={tmp_path}/files", f"--output={tmp_path}/out"]
        done = subprocess.run(
            [sys.executable, "-B", "-c", ALONE, allowed, str(ROOT), *flags],
            cwd="/",
            env={"PYTHONHASHSEED": "77", "HOME": str(tmp_path), "OMP_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
        )
    finally:
        (folder / "away").rename(hidden)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "4 of them lossless" in done.stdout and "wrong []" in done.stdout
    for name, original in originals.items():
        assert (np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) == original).all()


@pytest.mark.slow
def test_reported_sizes_are_those_on_disk(folder):
    """Of files that a trained run's codec wrote, which takes it half a minute to make."""
    status, out, _ = codec(folder, "inspect", "--input=files")
    paths = sorted((folder / "files").iterdir())
    assert status == 0 and len(out.splitlines()) == 4
    for line, path in zip(out.splitlines(), paths, strict=True):
        size = os.stat(path).st_size
        assert f"{size} bytes" in line and f"{8 * size / 64:.3f} bits/dim" in line
    assert {path.suffix for path in paths} == {".djx"}
    status, out, _ = codec(folder, "inspect", "--input=archive")
    size = os.stat(folder / "archive" / "pictures.djxa").st_size
    assert status == 0 and f"4 of 8x8x1 lossless portable, {size} bytes" in out
    assert f"{8 * size / 256:.3f} bits/dim" in out


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def headless(path):
    path.write_bytes(path.read_bytes()[:9])


def damaged(path):
    """Changes the last byte of the payload."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x80
    path.write_bytes(bytes(content))


def flipped(path):
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(bytes(content))


def newer(path):
    content = bytearray(path.read_bytes())
    content[4] = 9
    path.write_bytes(bytes(content))


def foreign(path):
    path.write_bytes(b"\x89PNG and so on")


def empty(path):
    path.write_bytes(b"")


def resealed(path, **changes):
    content = path.read_bytes()
    header, start = file_header.unpack(content)
    path.write_bytes(file_header.pack(header._replace(**changes)) + content[start:])


def huge(path):
    resealed(path, shape=(8000, 8000, 1))


def endless(path):
    resealed(path, payload=2**34)


def longer(path):
    path.write_bytes(path.read_bytes() + bytes(10**6))


def anothers(path):
    resealed(path, model=b"another.")


def elsewhere(path):
    resealed(path, environment=b"away")


BAD_FILES = {  # what is done to a file, exit status, words of the message
    cut: (2, "--max_bytes="),
    headless: (2, "less than its header"),
    empty: (2, "not a compressed image"),
    flipped: (2, "checksum"),
    newer: (2, "version 9"),
    foreign: (2, "not a compressed image"),
    huge: (2, "differ from the model"),
    endless: (2, "--max_bytes="),
    longer: (2, "longer than"),
    anothers: (2, "written with the model"),
    elsewhere: (2, "another machine"),
    damaged: (1, "damage, or drift"),
}


def claiming(path):
    """Claims sizes beyond all memory in an archive's header."""
    known = archive_header.read_sizes(path.read_bytes())
    sizes = (*known.shape, 2**32, 2**34, 2**34)
    path.write_bytes(path.read_bytes()[:16] + b"".join(map(file_header.varint, sizes)) + bytes(99))


BAD_ARCHIVES = {
    claiming: (2, "its header alone"),
    cut: (2, "an incomplete archive cannot be decoded"),
    headless: (2, "less than its header"),
    flipped: (2, "header is damaged"),
    newer: (2, "version 9"),
    longer: (2, "but its header says"),
    foreign: (2, "not an archive"),
    damaged: (1, "damage"),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", BAD_ARCHIVES, ids=lambda f: f.__name__)
def test_a_bad_archive_is_refused_in_one_line(folder, tmp_path, how):
    """Of an archive that a trained run's codec wrote."""
    status, words = BAD_ARCHIVES[how]
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.copy(folder / "archive" / "pictures.djxa", tmp_path / "all.djxa")
    how(tmp_path / "all.djxa")
    done = codec(tmp_path, "decompress", "--input=all.djxa", "--output=out")
    last = done[2].strip().splitlines()[-1]
    assert done[0] == status and last.startswith("ddpm_jax: all.djxa: ") and words in last, done[2]
    pixels = {path.name: np.asarray(Image.open(path)) for path in folder.glob("pictures/*.png")}
    for path in tmp_path.glob("out/*"):
        assert status == 1 and (np.asarray(Image.open(path)) == pixels[path.name]).all()


@pytest.mark.slow
@pytest.mark.parametrize("how", BAD_FILES, ids=lambda f: f.__name__)
def test_a_bad_file_is_refused_in_one_line(folder, tmp_path, how):
    """Of a file that a trained run's codec wrote."""
    status, words = BAD_FILES[how]
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.copy(folder / "files" / "0.djx", tmp_path / "0.djx")
    how(tmp_path / "0.djx")
    done = codec(tmp_path, "decompress", "--input=0.djx", "--output=out")
    last = done[2].strip().splitlines()[-1]
    assert done[0] == status and last.startswith("ddpm_jax: 0.djx: ") and words in last, done[2]
    assert "Traceback" not in done[2] and not list(tmp_path.glob("out/*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode, args, words",
    [
        ("compress", ["--output=out"], "--input="),
        ("compress", ["--input=pictures"], "--output=DIR"),
        ("compress", ["--input=nowhere", "--output=out"], "nowhere does not exist"),
        ("compress", ["--input=run", "--output=out"], "holds no .png"),
        ("compress", ["--input=odd.png", "--output=out"], "8x8x3, mode RGB; this"),
        ("compress", ["--input=grey.png", "--output=out"], "has the value 100"),
        ("compress", ["--input=pictures", "--output=files", "--nu=9"], "already exists"),
        ("compress", ["--input=pictures,pictures/0.png", "--output=out"], "would have one path"),
        ("compress", ["--input=pictures", "--output=out", "--nu=30"], "--nu is 30"),
        ("compress", ["--input=pictures", "--output=out", "--max_bytes=9"], "at least 80"),
        ("compress", ["--input=pictures", "--output=out", "--profile=lokal"], "did you mean local"),
        ("sample", ["--input=pictures"], "--input goes with"),
        (
            "compress",
            ["--archive", "--input=pictures", "--output=archive", "--nu=9"],
            "already exists",
        ),
        (
            "compress",
            ["--archive", "--input=pictures", "--output=out", "--max_bytes=99"],
            "a part of an archive",
        ),
        ("compress", ["--archive", "--input=odd.png", "--output=out"], "8x8x3, mode RGB; this"),
        (
            "decompress",
            ["--input=archive", "--output=out", "--max_bytes=99"],
            "a part of an archive",
        ),
        (
            "decompress",
            ["--input=archive", "--output=other"],
            "already exists, and is not the output",
        ),
        ("decompress", ["--input=archive,files", "--output=out"], "would have one path"),
        ("decompress", ["--archive", "--input=archive", "--output=out"], "--archive goes with"),
    ],
)
def test_a_usage_error_is_refused_before_anything_is_written(folder, mode, args, words):
    """Beside files that a trained run's codec wrote."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "odd.png")
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(folder / "grey.png")
    (folder / "other").mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "other" / "0.png")
    before = sorted(folder.rglob("*"))
    status, _, err = codec(folder, mode, *args)
    assert status == 2 and words in err.strip().splitlines()[-1], err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_prefix_decodes_to_a_picture_reported_as_lossy(folder, tmp_path):
    """By the commands, three of which decode: each compiles the network."""
    made = codec(folder, "compress", "--input=pictures", f"--output={tmp_path}/s", "--max_bytes=80")
    assert made[0] == 0 and all(path.stat().st_size <= 80 for path in (tmp_path / "s").iterdir())
    for source in (folder / "files", tmp_path / "s"):
        out = tmp_path / f"out-{source.name}"
        done = codec(folder, "decompress", f"--input={source}", f"--output={out}", "--max_bytes=40")
        assert done[0] == 0 and "4 pictures, 0 of them lossless" in done[1], done
    for path in (tmp_path / "out-s").iterdir():
        assert path.read_bytes() == (tmp_path / "out-files" / path.name).read_bytes()


@pytest.mark.slow
def test_changed_weights_are_noticed_even_if_their_hash_is_forged(folder, tmp_path):
    """Weights trained for two more steps are refused, and noticed when the file's hash is forged."""
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.copy(folder / "files" / "0.djx", tmp_path / "0.djx")
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    step = config["train"]["steps"]
    more = ddpm("--workdir=run", f"--config.train.steps={step + 2}", cwd=tmp_path)
    assert more[0] == 0, more[2]
    calibrated = tmp_path / "run" / "codec"
    (calibrated / f"{step}-codec.json").rename(calibrated / f"{step + 2}-codec.json")
    done = codec(tmp_path, "decompress", "--input=0.djx", "--output=out")
    assert done[0] == 2 and "written with the model" in done[2]
    name = bytes.fromhex(done[2].strip().split()[-1])
    resealed(tmp_path / "0.djx", model=name)
    done = codec(tmp_path, "decompress", "--input=0.djx", "--output=out")
    assert done[0] == 1 and "damage" in done[2], done[2]


@pytest.mark.slow
def test_an_existing_archive_is_kept_and_missing_pictures_are_written(folder):
    """By the commands, on an archive that one of them made."""
    before = (folder / "archive" / "pictures.djxa").stat().st_mtime_ns
    status, out, err = codec(
        folder, "compress", "--archive", "--input=pictures", "--output=archive"
    )
    assert status == 0 and "already exists" in out, err
    assert (folder / "archive" / "pictures.djxa").stat().st_mtime_ns == before
    out = folder / "half"
    out.mkdir()
    for name in ("1.png", "2.png"):
        shutil.copy(folder / "pictures" / name, out / name)
    kept = (out / "1.png").stat().st_mtime_ns
    status, _, err = codec(folder, "decompress", "--input=archive", "--output=half")
    assert status == 0, err
    for path in (folder / "pictures").iterdir():
        assert (np.asarray(Image.open(path)) == np.asarray(Image.open(out / path.name))).all()
    assert (out / "1.png").stat().st_mtime_ns == kept
