"""Files as they circulate, through the command: TensorFlow's, torch's; and what can be done with them."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from support import release
from support.command import ddpm
from support.release import CIFAR, LARGE, SMALL

pytestmark = pytest.mark.slow

WRITE = """
import numpy, sys, tensorflow
tensors = dict(numpy.load(sys.argv[1]))
tensorflow.raw_ops.SaveV2(
    prefix=sys.argv[2],
    tensor_names=list(tensors),
    shape_and_slices=[""] * len(tensors),
    tensors=list(tensors.values()),
)
"""


def written(folder, what, step):
    """A checkpoint of the release, written by TensorFlow itself; its variables."""
    pytest.importorskip("tensorflow")
    tensors = release.checkpoint(release.variables(*what), step)
    np.savez(folder / "tensors.npz", **tensors)
    prefix = folder / f"model.ckpt-{step}"
    command = [sys.executable, "-c", WRITE, folder / "tensors.npz", prefix]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "tensors.npz").unlink()
    return prefix, tensors


@pytest.mark.parametrize(
    "what, name, config, count",
    [
        (CIFAR, "diffusion_cifar10_model", "cifar10", "35,746,307"),
        (LARGE, "diffusion_celebahq_model", "celeb_a_hq/256", "113,673,219"),
    ],
)
def test_a_checkpoint_of_the_authors_becomes_a_run(what, name, config, count, tmp_path):
    """Through TensorFlow's own file format."""
    folder = tmp_path / name
    folder.mkdir()
    written(folder, what, 790_000)
    status, out, err = ddpm("--mode=import", f"--source={folder}", cwd=tmp_path)
    assert status == 0, err
    assert f"tf1: {count} parameters, step 790000" in out
    assert "weights and their EMA; the optimiser's state is from the checkpoint" in out
    record = json.loads((tmp_path / "runs" / name / "config.json").read_text())
    assert record["config"]["data"]["name"] == config and record["images"]["shape"][0] == what[3]
    assert [path.name for path in (tmp_path / "runs" / name / "checkpoints").iterdir()] == [
        "790000"
    ]


def test_what_is_wrong_with_one_is_told_and_nothing_written(tmp_path):
    """Through TensorFlow's own file format."""
    (tmp_path / "whole").mkdir()
    prefix, _ = written(tmp_path / "whole", SMALL, 7)
    data = f"{prefix.name}.data-00000-of-00001"

    def spoiled(name, change):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        change(tmp_path / name)
        before = sorted(tmp_path.rglob("*"))
        status, _, err = ddpm("--mode=import", f"--source={name}", "--workdir=run", cwd=tmp_path)
        assert status == 2 and "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before
        return err.strip().splitlines()[-1]

    assert "does not exist" in spoiled("a", lambda folder: (folder / data).unlink())
    cut = spoiled("b", lambda folder: os.truncate(folder / data, 1000))
    assert "truncated or damaged" in cut
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    assert "Git LFS pointer" in spoiled("c", lambda folder: (folder / data).write_bytes(pointer))
    index = spoiled("d", lambda folder: os.truncate(folder / f"{prefix.name}.index", 100))
    assert "truncated or damaged" in index


def pesser(what, seed=0):
    tensors = release.checkpoint(release.variables(*what), 0, seed)
    raw = {name: 0.1 * tensors[name] for name in release.variables(*what)}
    return release.by_pesser(raw)


def test_it_is_sampled_from_measured_trained_on_and_handed_out(tmp_path):
    """On the user's own pictures, in a file beside the weights."""
    (tmp_path / "mine").mkdir()
    save_file(pesser(SMALL), tmp_path / "mine" / "weights.safetensors")
    pictures = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    np.save(tmp_path / "pictures.npy", pictures)
    few = [
        "--config.train.batch_size=8",
        "--config.sample.batch_size=8",
        "--config.eval.batch_size=8",
    ]
    few += ["--config.train.steps=2", "--config.train.sample_every=0", "--config.sample.steps=3"]
    few += ["--config.sample.count=5", "--config.eval.steps=4", "--config.eval.images=2"]
    few += [
        "--config.parallel.devices=1",
        "--config.data.data_dir=.",
        "--config.sample.solver=ddim",
    ]

    def done(*args):
        status, out, err = ddpm(*args, cwd=tmp_path)
        assert status == 0, err
        return out

    source = ["--mode=import", "--source=mine/weights.safetensors"]
    done(*source, "--config.data.path=pictures.npy", *few)
    of_run = ["--workdir=runs/mine"]
    done(*of_run, "--mode=sample")
    assert (tmp_path / "runs" / "mine" / "samples" / "0-ddim-3-eta0-5-seed0.npz").exists()
    assert "bits/dim (2 images, 4 of 1000 steps)" in done(*of_run, "--mode=evaluate")
    assert "trained to step 2" in done(*of_run)
    for format, target in (("png", "pngs"), ("npz", "five.npz"), ("diffusers", "folder")):
        done(*of_run, "--mode=export", f"--format={format}", f"--target={target}")
    made = np.load(tmp_path / "five.npz")["arr_0"]
    assert made.shape == (5, 32, 32, 3) and made.dtype == np.uint8
    files = sorted((tmp_path / "pngs").iterdir())
    assert [path.name for path in files] == [f"{number:05d}.png" for number in range(5)]
    assert all(np.array_equal(Image.open(f), image) for f, image in zip(files, made, strict=True))
    assert "diffusers: " in done("--mode=import", "--source=folder", *few[2:], "--workdir=again")
    status, _, err = ddpm(*source, *few, "--workdir=runs/mine", cwd=tmp_path)
    assert status == 2 and "runs/mine already holds a run" in err


def test_pessers_files_are_read_and_no_code_in_them_is_run(tmp_path):
    """Through torch's own file format."""
    torch = pytest.importorskip("torch")
    (tmp_path / "ema_cifar10").mkdir()
    path = tmp_path / "ema_cifar10" / "model-790000.ckpt"
    tensors = {name: torch.tensor(array) for name, array in pesser(SMALL).items()}
    for legacy in (False, True):  # his are of 2020, torch wrote no zip then
        torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
        workdir = f"--workdir=legacy{legacy}"
        status, out, err = ddpm("--mode=import", f"--source={path}", workdir, cwd=tmp_path)
        assert status == 0, err
        assert "pesser" in out and "step 790000" in out and "one set of weights" in out

    class Command:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "done"),)

    for spoil in (pickle.dumps(Command()), path.read_bytes()[:-5000], b"no torch file"):
        path.write_bytes(spoil)
        status, _, err = ddpm("--mode=import", f"--source={path}", "--workdir=bad", cwd=tmp_path)
        assert status == 2 and "truncated, or not a dictionary of tensors" in err
        assert "Traceback" not in err
    assert not (tmp_path / "done").exists() and not (tmp_path / "bad").exists()
