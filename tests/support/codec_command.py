"""The codec's modes by their commands, in a folder of a run, pictures and files."""

import numpy as np
import pytest
from PIL import Image
from support.command import TINY, ddpm

from ddpm_jax.datasets import pixels
from ddpm_jax.datasets import source as sources


@pytest.fixture(scope="module", name="folder")
def folder_of_files(digits, tmp_path_factory):
    """run/, calibrated; pictures/, four digits; files/ and archive/, the same compressed."""
    folder = tmp_path_factory.mktemp("codec")
    trained = ddpm(*TINY, f"--config.data.data_dir={digits}", f"--workdir={folder}/run")
    assert trained[0] == 0, trained[2]
    (folder / "pictures").mkdir()
    source = sources.open_data_set("digits", str(digits), "test", 8)
    for number, image in enumerate(pixels.stretch(source.read(np.arange(4)), 17)):
        Image.fromarray(image[..., 0]).save(folder / "pictures" / f"{number}.png")
    before = codec(folder, "compress", "--input=pictures", "--output=files")
    assert before[0] == 2 and "--mode=calibrate" in before[2], before
    assert codec(folder, "calibrate")[0] == 0
    again = codec(folder, "calibrate")
    assert again[0] == 2 and "already exists" in again[2]
    status, out, err = codec(folder, "compress", "--input=pictures", "--output=files")
    assert status == 0 and "4 files" in out, err
    made = codec(folder, "compress", "--archive", "--input=pictures", "--output=archive")
    assert made[0] == 0 and "4 pictures in archive/pictures.djxa" in made[1], made
    return folder


def codec(folder, mode, *args):
    """Runs a mode in the folder, so that paths are short."""
    return ddpm("--workdir=run", f"--mode={mode}", *args, cwd=folder)
