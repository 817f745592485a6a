"""A run written by commit b90c3d8: every later version resumes, samples, measures and decompresses it.

golden/README.md has the commands that made it. Numbers are compared as closely as two processors agree;
the checkpoint and the decompressed pixels bit for bit.
"""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT
from etils import epath
from PIL import Image

from ddpm_jax import main
from ddpm_jax.config import build, stored_config
from ddpm_jax.run import state
from ddpm_jax.runtime import digest

GOLDEN = ROOT / "tests" / "golden"
STEP = 1500
EXPECTED = json.loads((GOLDEN / "run.json").read_text())
MARK = 255  # no sample has a row that is white from end to end


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GOLDEN / "run", tmp_path / "run")


@pytest.fixture
def ddpm(folder, digits):
    """The command line in this process, on the copied run: its config is the stored one."""

    def command(mode, *args):
        where = f"--workdir={folder}", f"--config.data.data_dir={digits}"
        assert main.main(["main", *where, f"--mode={mode}", *args]) == 0

    return command


@pytest.fixture(scope="module")
def samples():
    with np.load(GOLDEN / "run.npz") as file:
        return {name: file[name].astype(int) for name in file.files}


def nearly_all_equal(images, expected):
    """Rounding may move a pixel that lies between two grey levels; another network moves most."""
    same = images == expected
    return same.mean() > 0.98 and np.abs(images.astype(int) - expected).max() <= 32


def test_the_checkpoint_holds_the_recorded_arrays_under_the_recorded_names(folder):
    """Fields of the train state and of optax's, Flax's modules, dtypes, shapes and every bit."""
    directory = epath.Path(folder)
    run = build.run(stored_config.get_config(folder), directory, image_kind=((8, 8, 1), 17))
    step, found, damaged = state.read_newest(run)
    assert (step, damaged) == (STEP, set())
    assert digest.record(found) == EXPECTED["arrays"]


@pytest.mark.slow
def test_training_resumes_and_saves_arrays_of_the_same_names(folder, ddpm):
    """Two steps, which depend on the optimiser's state, the history of losses, the seed and the data; they compile."""
    before = (folder / "metrics.jsonl").read_text()
    steps = "--config.train.steps=1502", "--config.train.log_every=2"
    ddpm("train", *steps, "--config.eval.images=0")
    text = (folder / "metrics.jsonl").read_text()
    assert text.startswith(before)
    row = json.loads(text.removeprefix(before))
    assert {name: row[name] for name in EXPECTED["row"]} == pytest.approx(EXPECTED["row"], rel=1e-3)
    saved = json.loads((folder / "checkpoints" / "1502" / "record" / "metadata").read_text())
    kinds = [{name: kind[:2] for name, kind in of["arrays"].items()} for of in (saved, EXPECTED)]
    assert kinds[0] == kinds[1]


def test_the_unfinished_sampling_is_finished_from_its_parts(folder, ddpm, samples):
    """The first image of each part is altered: it comes out altered, and the others as they were."""
    (part,) = folder.glob("samples/.*/00000.npz")
    images = dict(np.load(part))["images"]
    images[0, 0] = MARK
    np.savez(part, images=images)
    (left,) = folder.glob("samples/.*/00001-unfinished.npz")
    arrays = dict(np.load(left))
    arrays["0"][0] *= -1.0
    np.savez(left, **arrays)
    ddpm("sample")
    made = np.load(folder / "samples" / f"{STEP}-ancestral-100-12-seed5.npz")["arr_0"]
    assert (made[:4] == images).all()
    assert (made[4] == samples["ancestral"][4]).mean() < 0.9
    assert nearly_all_equal(made[5:], samples["ancestral"][5:])
    assert not part.parent.exists()


def test_the_unfinished_evaluation_is_finished_and_finds_the_same_bound(folder, ddpm):
    """A part's time is altered, and counted."""
    (part,) = folder.glob("eval/.*/00000.npz")
    np.savez(part, **dict(np.load(part)) | {"seconds": np.asarray(1e6)})
    ddpm("evaluate")
    made = json.loads((folder / "eval" / f"{STEP}-likelihood-test.json").read_text())
    assert made.pop("seconds") >= 1e6
    expected = {name: value for name, value in EXPECTED["bound"].items() if name != "seconds"}
    texts = {name: value for name, value in expected.items() if isinstance(value, str)}
    assert {name: made.pop(name) for name in texts} == texts
    terms, expected_terms = made.pop("terms"), expected.pop("terms")
    numbers = {name: value for name, value in expected.items() if name not in texts}
    assert made == pytest.approx(numbers, rel=1e-3)
    assert terms.keys() == expected_terms.keys()
    for name in terms:
        assert terms[name] == pytest.approx(expected_terms[name], rel=1e-2, abs=1e-6)


def test_it_draws_the_same_samples(folder, ddpm, samples):
    ddpm("sample", "--config.sample.solver=ddim", "--config.sample.steps=10")
    made = np.load(folder / "samples" / f"{STEP}-ddim-10-eta0-12-seed5.npz")["arr_0"]
    assert nearly_all_equal(made, samples["ddim"])


def test_its_files_are_decompressed_to_the_same_pixels(folder, ddpm, tmp_path):
    """An archive of four pictures, and files of the first two alone."""
    ddpm("decompress", f"--input={folder}/files", f"--output={tmp_path}/out")
    found = {path.stem: pixels(path) for path in (tmp_path / "out").iterdir()}
    assert found.keys() == {"0", "1", "2", "3", "alone-0", "alone-1"}
    for name, image in found.items():
        picture = GOLDEN / "run" / "pictures" / f"{name.removeprefix('alone-')}.png"
        assert (image == pixels(picture)).all()


def pixels(path):
    return np.asarray(Image.open(path))
