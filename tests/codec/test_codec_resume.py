"""Repeated commands resume, other files are left alone, and --best_effort recovers what it can."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from conftest import ROOT
from etils import epath
from PIL import Image
from support import codec_network
from support.codec_command import codec, folder_of_files  # noqa: F401, a fixture

from ddpm_jax.codec import archive, calibration, file_header, image_file
from ddpm_jax.codec.commands import compress, inputs, pictures
from ddpm_jax.codec.errors import CorruptStream
from ddpm_jax.datasets import pixels
from ddpm_jax.datasets import source as sources


@pytest.fixture(scope="module")
def run_and_codec(digits, tmp_path_factory):
    """A run and its codec."""
    run = codec_network.run(digits, tmp_path_factory.mktemp("run"))
    network = codec_network.network(run)
    (run.directory / "checkpoints" / "1").mkdir(parents=True)
    calibration.write(calibration.file_path(run.directory, 1), network.plan, {})
    return run, codec_network.codec(network)


@pytest.fixture
def run_mode(run_and_codec, monkeypatch, tmp_path):
    """Returns a function that runs a mode, with the codec of the run, on three pictures in in/."""
    run, codec = run_and_codec
    monkeypatch.setattr(inputs, "open_codec", lambda run, profile: codec)
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(codec_network.pictured(3)):
        pictures.write(epath.Path("in") / f"{number}.png", image, 17)

    def call(mode, input, output, max_bytes=None, nu=8, best_effort=False):
        request = inputs.Request(
            input=[input], output=output, max_bytes=max_bytes, nu=nu, best_effort=best_effort
        )
        getattr(compress, f"check_{mode}")(run, request)
        getattr(compress, mode)(run, request)

    return call


def contents(name):
    return {path.name: path.read_bytes() for path in epath.Path(name).iterdir()}


def damage_byte(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("max_bytes", [None, 80])
def test_the_same_command_writes_what_is_missing_and_nothing_else(run_mode, capsys, max_bytes):
    run_mode("compress", "in", "out", max_bytes)
    run_mode("decompress", "out", "back", max_bytes)
    before = contents("out"), contents("back")
    for to, mode, name in (("out", "compress", "1.djx"), ("back", "decompress", "1.png")):
        (epath.Path(to) / name).unlink()
        os.utime(f"{to}/0{name[1:]}", (1, 1))
        run_mode(mode, {"out": "in", "back": "out"}[to], to, max_bytes)
        assert "2 already existed" in capsys.readouterr().out.splitlines()[-1]
        assert os.stat(f"{to}/0{name[1:]}").st_mtime == 1
    assert (contents("out"), contents("back")) == before


def test_other_files_in_the_output_folder_are_refused_and_kept(run_mode):
    run_mode("compress", "in", "out")
    run_mode("decompress", "out", "back")
    run_mode("compress", "in", "cut", 80)
    wrong = [("compress", "in", "out", 80, 8), ("compress", "in", "cut", None, 8)]
    wrong += [("compress", "in", "out", None, 9), ("decompress", "out", "back", 80)]
    for how in wrong:
        with pytest.raises(ValueError, match="already exists, and is not the output for"):
            run_mode(*how)
    right = contents("out")["2.djx"]
    flipped = right[:8] + bytes([right[8] ^ 1]) + right[9:]
    for content in (contents("out")["1.djx"], flipped, right[:-1], right + b"\0", b""):
        epath.Path("out/2.djx").write_bytes(content)
        with pytest.raises(
            ValueError, match="out/2.djx already exists, and is not the output for in/2.png"
        ):
            run_mode("compress", "in", "out")
        assert contents("out")["2.djx"] == content
    epath.Path("out/2.djx").write_bytes(right)
    for content in (contents("back")["1.png"], b"not a picture"):
        epath.Path("back/2.png").write_bytes(content)
        with pytest.raises(
            ValueError, match="back/2.png already exists, and is not the output for out/2"
        ):
            run_mode("decompress", "out", "back")
        assert contents("back")["2.png"] == content


def test_what_a_damaged_file_still_holds_is_written_under_a_name_that_says_so(run_mode, capsys):
    """The picture at the end of its chain: near the original, never called lossless, and the command fails."""
    run_mode("compress", "in", "out")
    damage_byte(epath.Path("out/1.djx"), -1)
    with pytest.raises(CorruptStream, match=r"out/1.djx: its pixels differ"):
        run_mode("decompress", "out", "back")
    words = r"1 of 3 files are damaged: out/1.djx; .* end in .damaged.png"
    for _ in range(2):  # the second finds the output of the first
        with pytest.raises(CorruptStream, match=words):
            run_mode("decompress", "out", "back", best_effort=True)
        assert sorted(contents("back")) == ["0.png", "1.damaged.png", "2.png"]
    assert "0 of them lossless and verified; 2 already existed" in capsys.readouterr().out
    left = pictures.read(epath.Path("back/1.damaged.png"), (8, 8, 1), 17).astype(int)
    grey = np.abs(codec_network.pictured(3)[1].astype(int) - 8).mean()
    assert np.abs(left - codec_network.pictured(3)[1]).mean() < 0.5 * grey
    pictures.write(epath.Path("back/1.damaged.png"), codec_network.pictured(1, 9)[0], 17)
    with pytest.raises(ValueError, match=r"back/1.damaged.png already exists"):
        run_mode("decompress", "out", "back", best_effort=True)


def test_best_effort_continues_past_a_damaged_archive(run_mode, run_and_codec):
    """The files after it are decoded, and so are the pictures before the damage."""
    pictured = list(codec_network.pictured(3))
    content = archive.archive(pictured, run_and_codec[1], ["x", "y", "z"], 8)
    epath.Path("both").mkdir()
    epath.Path("both/a.djxa").write_bytes(content)
    damage_byte(epath.Path("both/a.djxa"), -1)
    epath.Path("both/b.djx").write_bytes(image_file.compress(pictured[0], run_and_codec[1], 8))
    with pytest.raises(CorruptStream, match="both/a.djxa: "):
        run_mode("decompress", "both", "back")
    assert not epath.Path("back/b.png").exists()
    with pytest.raises(CorruptStream, match="1 of 2 files are damaged: both/a.djxa"):
        run_mode("decompress", "both", "back", best_effort=True)
    written = {
        path.stem: pictures.read(path, (8, 8, 1), 17) for path in epath.Path("back").iterdir()
    }
    assert (written.pop("b") == pictured[0]).all() and len(written) < 3
    for name, image in written.items():
        assert (image == pictured["xyz".index(name)]).all()


def test_no_more_is_read_of_a_huge_file_than_a_valid_one_can_have(run_mode):
    """A sparse file of 64 GB is refused by name, in little memory."""
    run_mode("compress", "in", "out")
    os.truncate("out/1.djx", 2**36)
    tracemalloc.start()
    with pytest.raises(CorruptStream, match="out/1.djx: it is longer than"):
        run_mode("decompress", "out", "back")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e7 and not epath.Path("back").exists()


def test_best_effort_recovers_a_picture_from_any_damage(run_and_codec):
    """Even if the bits of the chain end too soon, or hold an endless number."""
    image, of = codec_network.pictured(1)[0], run_and_codec[1]
    data = image_file.compress(image, of, 8)
    header, start = file_header.unpack(data)
    for payload in (b"\xff" * 100, b"\xfe" * header.payload, bytes(header.payload)):
        wrong = file_header.pack(header._replace(payload=len(payload))) + payload
        with pytest.raises(CorruptStream):
            image_file.decompress(wrong, of)
        out = image_file.decompress(wrong, of, best_effort=True)
        assert out.damage and not out.lossless and out.image.shape == image.shape
    whole = image_file.decompress(data, of, best_effort=True)
    assert whole.lossless and not whole.damage and (whole.image == image).all()
    assert not image_file.decompress(data, of, 40, best_effort=True).damage


@pytest.mark.slow
def test_a_stopped_command_resumes(digits, folder, tmp_path):
    """Processes are killed and interrupted; in the end the output is as if nothing had happened."""
    (tmp_path / "in").mkdir()
    source = sources.open_data_set("digits", str(digits), "train", 8)
    for place, image in enumerate(pixels.stretch(source.read(np.arange(80)), 17)):
        Image.fromarray(image[..., 0]).save(tmp_path / "in" / f"{place}.png")
    (tmp_path / "run").symlink_to(folder / "run")
    stop_and_resume(tmp_path, "compress", "in", "djx", signal.SIGKILL)
    stop_and_resume(tmp_path, "decompress", "out-compress", "png", signal.SIGTERM)
    for path in (tmp_path / "in").iterdir():
        back = tmp_path / "out-decompress" / path.name
        assert (np.asarray(Image.open(back)) == np.asarray(Image.open(path))).all()


def stop_and_resume(where, mode, source, suffix, number):
    """Stops the program when three of 80 files are done, then lets it resume."""
    flags = [f"--mode={mode}", f"--input={source}", f"--output=out-{mode}"]
    command = [sys.executable, "-m", "ddpm_jax.main", "--workdir=run", *flags]
    there = where / f"out-{mode}"

    def count():
        return len(list(there.glob(f"*.{suffix}")))

    with subprocess.Popen(
        command, cwd=where, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        while count() < 3:
            assert process.poll() is None, "it finished before it could be stopped"
            time.sleep(0.005)
        process.send_signal(number)
    assert process.returncode == (0 if number == signal.SIGTERM else -9)
    done = count()
    assert 3 <= done < 80
    status, out, err = codec(where, mode, *flags[1:])
    assert status == 0 and f"{done} already existed" in out and count() == 80, err
