"""Everything a user, a disk or a number can get wrong.

One clear last line with the words that help, the contract's exit status, no traceback, and what was
there before is there after, byte for byte; wrong usage (2) leaves nothing new either.
"""

import itertools
import os
import shutil
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import ROOT
from PIL import Image
from support.command import TINY, ddpm, ddpm_process

from ddpm_jax.datasets import digits as digits_set

NEW = [f"--config={ROOT}/configs/digits.py", *TINY[1:], "--config.data.data_dir=data"]
PREFLIGHT = ["--mode=preflight", "--topology=local", "--config.parallel.devices=0"]
FACES = f"--config={ROOT}/configs/celebahq256.py"
FOLDER = f"--config={ROOT}/configs/image_folder.py"
# Takes from root what others do not have, Linux's CAP_DAC_OVERRIDE: a read-only folder is so for it too.
NO_ROOT = "import ctypes; ctypes.CDLL(None).prctl(24, 1)"  # PR_CAPBSET_DROP
# No file may become larger than a checkpoint's arrays are: a disk that is full on the way.
SMALL_FILES = (
    "import os, resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000));"
    # What it would write to the compilation cache is cut off too, for every process after it.
    " os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '1e9'"
)


class Bad(NamedTuple):
    """What is typed in a folder that holds data/, run/ (a run that has 4 of its 6 steps), and what 'before' made."""

    status: int
    words: str
    args: list[str]
    before: str = ""  # a function of this file, below
    limits: str = ""  # what is run in a process of its own, before the command takes its place


def of(field, value, *args):
    return [*NEW, *args, f"--config.{field}={value}"]


def scored(field, value, *args):
    asked = ["--config.eval.quality.samples=8", f"--config.eval.quality.{field}={value}"]
    return ["--workdir=run", "--mode=evaluate", *asked, *args]


CASES = {
    # what is typed
    "no arguments": Bad(2, "try: ddpm train digits", []),
    "no run named": Bad(2, "try: ddpm sample runs/digits", ["sample"]),
    "a field as a flag": Bad(
        2, "did you mean --config.train.steps", ["train", "digits", "--steps=9"]
    ),
    "a word for a number": Bad(
        2, "train.steps is 'ten'; it must be an integer", of("train.steps", "ten")
    ),
    "no such config": Bad(2, "configs/nope.py does not exist", ["--config=configs/nope.py"]),
    "no such row": Bad(2, "eps-simple", [f"--config={ROOT}/configs/ablation.py:eps-simpel"]),
    "misspelt field": Bad(2, "did you mean train.steps", of("train.step", 3)),
    "a field like no other": Bad(2, "choose from train.batch_size", of("train.xyzzyq", 3)),
    "an abbreviated field": Bad(2, "did you mean optimizer.learning_rate?", of("optimizer.lr", 1)),
    "misspelt section": Bad(2, "did you mean train.steps", of("trian.steps", 3)),
    "misspelt flag": Bad(2, "workdir", [*NEW, "--wrokdir=x"]),
    "not a flag": Bad(2, "unexpected argument 'train'", [*NEW, "train"]),
    "unknown mode": Bad(2, "train|prepare|sample|evaluate", [*NEW, "--mode=dream"]),
    "one of several processes": Bad(2, "--coordinator=HOST:PORT", [*NEW, "--num_processes=2"]),
    "no such process": Bad(
        2, "from 0 to N - 1", [*NEW, "--coordinator=localhost:1", "--process_id=1"]
    ),
    # types and ranges
    "words for an int": Bad(2, "train.steps", of("train.steps", "ten")),
    "a fraction for an int": Bad(2, "train.steps", of("train.steps", 2.5)),
    "a word for a float": Bad(2, "optimizer.learning_rate", of("optimizer.learning_rate", "high")),
    "a word for a bool": Bad(2, "data.flip", of("data.flip", "perhaps")),
    "negative seed": Bad(2, "seed is -1", of("seed", -1)),
    "huge seed": Bad(2, "2^31 - 1", of("sample.seed", 2**31)),
    "negative steps": Bad(2, "train.steps is -1", of("train.steps", -1)),
    "no batch": Bad(2, "train.batch_size is 0", of("train.batch_size", 0)),
    "no clip": Bad(2, "train.clip is 0.0", of("train.clip", 0.0)),
    "clip groups": Bad(2, "train.clip_groups 3 does not divide", of("train.clip_groups", 3)),
    "on_nonfinite": Bad(2, "did you mean skip", of("train.on_nonfinite", "skpi")),
    "keep_best": Bad(2, "train.keep_best is 'fid'", of("train.keep_best", "fid")),
    "nan for a rate": Bad(2, "learning_rate is nan", of("optimizer.learning_rate", "nan")),
    "decay": Bad(2, "optimizer.ema_decay is 1.0", of("optimizer.ema_decay", 1.0)),
    "dropout": Bad(2, "model.dropout is 1.0", of("model.dropout", 1.0)),
    "channels": Bad(2, "model.channels is 0", of("model.channels", 0)),
    "dtype": Bad(2, "did you mean float32", of("model.dtype", "float33")),
    "image size": Bad(2, "images of 'digits' are 8x8", of("data.image_size", 32)),
    "too many levels": Bad(2, "cannot be halved", of("model.multipliers", "(1, 1, 1, 1, 1)")),
    "attention at a height of no level": Bad(
        2, "this network's heights are [8]", of("model.attention", "(16,)")
    ),
    "too few diffusion steps": Bad(2, "diffusion.schedule.T is 1", of("diffusion.schedule.T", 1)),
    "beta": Bad(2, "between 0 and 1", of("diffusion.schedule.beta_T", 1.5)),
    "schedule": Bad(2, "diffusion.schedule.name", of("diffusion.schedule.name", "cosin")),
    "solver": Bad(2, "did you mean ddim", of("sample.solver", "ddmi")),
    "eta": Bad(2, "sample.eta is 2.0", of("sample.eta", 2.0, "--config.sample.solver=ddim")),
    "too many sampling steps": Bad(2, "between 1 and T = 6", of("sample.steps", 9)),
    "too few eval steps": Bad(2, "between 2 and T = 6", of("eval.steps", 1)),
    "too many devices": Bad(
        2, "parallel.devices is 9; this machine has 8", of("parallel.devices", 9)
    ),
    "indivisible batch": Bad(2, "8 devices cannot share evenly", of("parallel.devices", 8)),
    "a batch of samples that the devices cannot share": Bad(
        2,
        "which 3 devices cannot share evenly; make it a multiple of 3, or set parallel.devices=2",
        of("parallel.devices", 3, "--config.train.batch_size=9"),
    ),
    "a stored batch that the devices cannot share": Bad(
        2,
        "set parallel.devices=2, or make it a multiple of 3 in a new run",
        ["--workdir=run", "--config.parallel.devices=3"],
    ),
    "no such topology": Bad(2, "v5e:1x1 2x2 2x4", [*NEW, "--mode=preflight", "--topology=v5e:2x3"]),
    "topology of what": Bad(2, "--topology goes with", [*NEW, "--topology=v3:2x2"]),
    "a batch that the devices to be cannot share": Bad(
        2, "8 devices cannot share", of("train.batch_size", 12, *PREFLIGHT)
    ),
    # config files
    "not Python": Bad(
        2, "invalid syntax (c.py, line 1)", ["--config=c.py"], "a_config_that_is_not_python"
    ),
    "missing section": Bad(
        2, "no section parallel", ["--config=c.py"], "a_config_without_parallel"
    ),
    "missing field": Bad(2, "'clip'", ["--config=c.py"], "a_config_without_clip"),
    "float steps": Bad(2, "train.steps is 2000.0", ["--config=c.py"], "a_config_with_float_steps"),
    # data
    "no such data set": Bad(2, "no data set 'digitz'", of("data.name", "digitz")),
    "no such data_dir": Bad(
        2, "data.data_dir nowhere does not exist", of("data.data_dir", "nowhere")
    ),
    "no held-out split": Bad(2, "no split 'tset'", of("data.held_out", "tset")),
    "no pictures": Bad(
        2, "data.path nowhere is not a folder", [FOLDER, "--config.data.path=nowhere"]
    ),
    "few pictures": Bad(
        2,
        "holds none of the 10 pictures of pictures; it takes 11 or more",
        [FOLDER, "--config.data.path=pictures", "--config.eval.images=4"],
        "ten_pictures",
    ),
    "few pictures to prepare": Bad(
        2,
        "holds none of the 10 pictures of pictures; it takes 11 or more",
        [FOLDER, "--config.data.path=pictures", "--mode=prepare"],
        "ten_pictures",
    ),
    "a workdir that is the folder of pictures": Bad(
        2,
        "pictures is the --workdir too",
        [FOLDER, "--config.data.path=./pictures", "--workdir=pictures"],
        "ten_pictures",
    ),
    "a picture beside class folders": Bad(
        2,
        "pictures/0.png lies beside the class folders",
        [FOLDER, "--config.data.path=pictures", "--config.model.classes=2"],
        "a_picture_beside_two_folders",
    ),
    "images of another width": Bad(
        2,
        "the run's images are 8x8x1 with 17 grey levels, but those of 'digits' are 8x12x1",
        ["--workdir=run"],
        "wider_images",
    ),
    "no such label": Bad(
        2,
        "sample.label is 'seven'; choose from 0, 1, 2",
        of("sample.label", "seven", "--config.model.classes=10"),
    ),
    "no path": Bad(2, "--config.data.path=DIR", [FOLDER]),
    "no arrays": Bad(2, "none.npy does not exist", [FOLDER, "--config.data.path=none.npy"]),
    "not made": Bad(
        2, "ddpm prepare CONFIG --source=data256x256.tar", [FACES, "--config.data.data_dir=."]
    ),
    "data_dir gone": Bad(
        2, "gone does not exist", ["--workdir=run", "--config.data.data_dir=gone"]
    ),
    "unreadable image": Bad(1, "of data set digits cannot be decoded", NEW, "images_that_are_none"),
    "broken records": Bad(1, "data set digits cannot be read", NEW, "records_cut_short"),
    # folders and runs
    "workdir is a file": Bad(2, "is not a writable folder", [*NEW, "--workdir=file"], "a_file"),
    "a pattern for a workdir": Bad(
        2, "runs/lr=[1e-4] contains [", [*NEW, "--workdir=runs/lr=[1e-4]"]
    ),
    "a pattern above a workdir": Bad(2, "contains [", ["--workdir=r?ns/a/b", *NEW]),
    "a pattern for a data_dir": Bad(2, "data.data_dir: ", of("data.data_dir", "d*ta")),
    "a pattern for a classifier": Bad(
        2,
        "r[0] contains [",
        ["--workdir=run", "--mode=sample", "--config.sample.classifier=r[0]"],
    ),
    "nobody's home": Bad(2, "no such user", [*NEW, "--workdir=~nobody-here/run"]),
    "nobody's data": Bad(2, "no such user", of("data.data_dir", "~nobody-here/data")),
    "workdir read-only": Bad(
        2, "is not a writable folder", [*NEW, "--workdir=run/x"], "read_only_run", NO_ROOT
    ),
    "checkpoints read-only": Bad(
        2,
        "run/checkpoints is not a writable folder",
        ["--workdir=run"],
        "read_only_checkpoints",
        NO_ROOT,
    ),
    "another config's run": Bad(
        2,
        r"optimizer.learning_rate (0.004 -> 1.0)",
        ["--workdir=run", "--config.optimizer.learning_rate=1.0"],
    ),
    "a value that no run may have, of another config": Bad(
        2, "diffusion.loss is 'huber'; choose", ["--workdir=run", "--config.diffusion.loss=huber"]
    ),
    "what only follows from another config": Bad(
        2,
        "diffusion.schedule.T (6 -> 5)",
        ["--workdir=run", "--config.diffusion.schedule.T=5"],
    ),
    "a network that the stored images do not fit": Bad(
        2,
        "another config: model.multipliers",
        ["--workdir=run", "--config.model.multipliers=(1, 1, 1, 1, 1)"],
    ),
    "config.json unreadable": Bad(2, "run/config.json", ["--workdir=run"], "a_torn_config_json"),
    "no run to sample from": Bad(2, "no checkpoint for --mode=sample", [*NEW, "--mode=sample"]),
    "no checkpoint": Bad(
        2, "no checkpoint for --mode=sample", ["--workdir=run", "--mode=sample"], "no_checkpoints"
    ),
    "nothing to evaluate": Bad(
        2, "--config.eval.images", [*scored("samples", 0), "--config.eval.images=0"]
    ),
    "no such samples": Bad(2, "none.npz does not exist", scored("path", "none.npz")),
    "no such statistics": Bad(2, "none.npz does not exist", scored("reference", "none.npz")),
    "statistics of one image": Bad(
        2, "not two or more rows of features", scored("reference", "one.npz"), "one_vector"
    ),
    "weights that cannot be read": Bad(
        2,
        "inception-2015-12-05.tgz",
        scored("inception", "file", "--config.eval.quality.space=inception"),
        "a_file",
    ),
    "no weights of Inception": Bad(
        2, "eval.quality.inception is not set", scored("space", "inception")
    ),
    "no such space": Bad(2, "did you mean inception", scored("space", "inceptoin")),
    "no such figure": Bad(
        2, "did you mean grid", ["--workdir=run", "--mode=figures", "--figures=gird"]
    ),
    "weights of what": Bad(2, "--weights goes with", ["--workdir=run", "--weights=raw"]),
    "no such weights": Bad(2, "ema|raw", ["--workdir=run", "--mode=sample", "--weights=average"]),
    "following by what": Bad(
        2,
        "eval.best is 'is_'; choose from bits_per_dim_test, frechet_pixels_8_test",
        scored("space", "pixels", "--follow", "--config.eval.best=is_"),
    ),
    "following what": Bad(2, "--follow goes with", ["--workdir=run", "--mode=sample", "--follow"]),
    "only damaged checkpoints": Bad(
        1, "no checkpoint is left", ["--workdir=run", "--mode=sample"], "damaged_checkpoints"
    ),
    "only damaged checkpoints to go on from": Bad(
        1,
        "no checkpoint is left",
        ["--workdir=run"],
        "damaged_checkpoints",
    ),
    # the world
    "disk full at a log row": Bad(
        1,
        "the disk is full",
        ["--workdir=run"],
        "a_long_log",
        SMALL_FILES,
    ),
    "disk full at a checkpoint": Bad(1, "the disk is full", ["--workdir=run"], "", SMALL_FILES),
    "not finite": Bad(
        1,
        "not finite at step 3; its batch is in new/nonfinite-3.json",
        of("optimizer.learning_rate", 1e30, "--workdir=new", "--config.optimizer.warmup=0"),
    ),
    "never finite, though such steps are skipped": Bad(
        1,
        "not finite at step 12",
        [
            *of("optimizer.learning_rate", 1e30, "--workdir=new", "--config.optimizer.warmup=0"),
            "--config.train.on_nonfinite=skip",
            "--config.train.steps=40",
            "--config.train.log_every=1",
        ],
    ),
    "a classifier that is nowhere": Bad(
        2,
        "nowhere holds no run",
        ["--workdir=run", "--mode=sample", "--config.sample.classifier=nowhere"],
    ),
    "a run that is not a classifier": Bad(
        2,
        "holds no classifier; train one as configs/digits_classifier.py",
        ["--workdir=run", "--mode=sample", "--config.sample.classifier=run"],
    ),
}


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A run of 6 steps that has lost its last two."""
    folder = tmp_path_factory.mktemp("trained")
    args = [*TINY, f"--config.data.data_dir={digits}", f"--workdir={folder}"]
    status, _, err = ddpm(*args, "--config.train.steps=6")
    assert status == 0, err
    shutil.rmtree(folder / "checkpoints" / "6")
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[:3]))
    return folder


# Each needs a process of its own, whose files may not grow.
SLOW = ("disk full at a log row", "disk full at a checkpoint")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES]
)
def test_bad_input(name, digits, trained, tmp_path):
    case = CASES[name]
    shutil.copytree(digits, tmp_path / "data")
    shutil.copytree(trained, tmp_path / "run")
    text = (tmp_path / "run" / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(text.replace(str(digits), "data"))
    if case.before:
        globals()[case.before](tmp_path)
    before = content(tmp_path, case.status)
    run = partial(ddpm_process, before=case.limits) if case.limits else ddpm
    status, _, err = run(*case.args, cwd=tmp_path)
    last = (err.strip().splitlines() or [""])[-1]
    assert status == case.status, err
    assert last.startswith("ddpm_jax: ") and case.words in last, err
    assert "Traceback" not in err and len(last) < 700
    after = content(tmp_path, case.status)
    if case.status == 2:
        assert after == before
    else:
        lost = {path for path in before if after.get(path) != before[path]}
        grown = {path for path in lost if after.get(path, b"").startswith(before[path])}
        assert {path.name for path in grown} <= {"metrics.jsonl"} and lost == grown


def content(folder, status):
    """Every file and folder; but for wrong usage without the lock, which names its last owner."""
    paths = [path for path in folder.rglob("*") if path.name != "lock" or status == 2]
    return {path: path.read_bytes() if path.is_file() else b"" for path in paths}


def a_config(folder, lines):
    head = (ROOT / "configs" / "digits.py").read_text().replace("def get_config", "def base")
    (folder / "c.py").write_text(
        f"{head}\n\ndef get_config():\n    c = base()\n{lines}    return c\n"
    )


def a_config_that_is_not_python(folder):
    (folder / "c.py").write_text("def get_config(:\n")


def a_config_without_parallel(folder):
    a_config(folder, "    del c.parallel\n")


def a_config_without_clip(folder):
    a_config(folder, "    del c.train.clip\n")


def a_config_with_float_steps(folder):
    a_config(folder, "    del c.train.steps\n    c.train.steps = 2e3\n")


def images_that_are_none(folder):
    """A data set of the same name, in which some images are no images."""
    encode, count = tfds.features.Image.encode_example, itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tfds.features.Image,
            "encode_example",
            lambda self, image: b"no image" if next(count) % 100 == 7 else encode(self, image),
        )
        shutil.rmtree(folder / "data" / "digits")
        builder = tfds.builder("digits", data_dir=str(folder / "data"))
        builder.download_and_prepare(file_format="array_record")


def records_cut_short(folder):
    for path in folder.glob("data/digits/*/*train*array_record*"):
        os.truncate(path, path.stat().st_size // 2)


def one_vector(folder):
    np.savez(folder / "one.npz", pool_3=np.ones((1, 64)))


def ten_pictures(folder):
    (folder / "pictures").mkdir()
    for i in range(10):
        Image.new("RGB", (8, 8), (i, i, i)).save(folder / "pictures" / f"{i}.png")


def a_picture_beside_two_folders(folder):
    ten_pictures(folder)
    for i in range(1, 10):
        (folder / "pictures" / f"class {i % 2}").mkdir(exist_ok=True)
        name = folder / "pictures" / f"{i}.png"
        name.rename(folder / "pictures" / f"class {i % 2}" / name.name)


def wider_images(folder):
    """A data set of the same name, whose images are 12 pixels wide."""
    encode = digits_set.encode_png
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            digits_set, "encode_png", lambda image: encode(np.pad(image, ((0, 0), (2, 2))))
        )
        shutil.rmtree(folder / "data" / "digits")
        builder = tfds.builder("digits", data_dir=str(folder / "data"))
        builder.download_and_prepare(file_format="array_record")


def a_file(folder):
    (folder / "file").write_text("a file")


def read_only_run(folder):
    (folder / "run").chmod(0o555)


def read_only_checkpoints(folder):
    (folder / "run" / "checkpoints").chmod(0o555)


def a_torn_config_json(folder):
    path = folder / "run" / "config.json"
    path.write_text(path.read_text()[:100])


def no_checkpoints(folder):
    shutil.rmtree(folder / "run" / "checkpoints")
    (folder / "run" / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir(parents=True)


def damaged_checkpoints(folder):
    """A flipped bit in every hundredth byte: some lie where nothing depends on them."""
    for data in (folder / "run" / "checkpoints").glob("*/state/**/d/*"):
        content = bytearray(data.read_bytes())
        for place in range(50, len(content), 100):
            content[place] ^= 1
        data.write_bytes(bytes(content))


def a_long_log(folder):
    with (folder / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1.0}\n' * 2000)
