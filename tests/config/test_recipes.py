"""A folder of pictures, the row for a laptop, and what the program chooses by itself."""

import json

import numpy as np
import pytest
from etils import epath
from PIL import Image, ImageDraw
from support.command import ddpm

from ddpm_jax.run import record

ARGS = ["--config.train.sample_every=0", "--config.eval.images=0", "--config.parallel.devices=1"]
CHOSEN = {  # by the number of steps, 30, the size of the pictures and the device
    "model.channels": 32,
    "model.multipliers": [1, 2, 2],
    "model.attention": [16],
    "optimizer.warmup": 1,
    "optimizer.ema_decay": 0.5,
}


def draw(folder, numbers):
    """Photographs, as far as sizes and formats go: a disc or a box before a sky."""
    rng = np.random.default_rng(numbers[0])
    for number in numbers:
        width, height = rng.integers(40, 300, 2).tolist()
        sky = np.linspace(rng.integers(0, 256, 3), rng.integers(0, 256, 3), height)
        image = Image.fromarray(np.repeat(sky[:, None], width, 1).astype(np.uint8))
        shape = ImageDraw.Draw(image)
        box = [width // 4, height // 4, width // 2, height // 2]
        (shape.ellipse if number % 2 else shape.rectangle)(
            box, fill=tuple(rng.integers(0, 256, 3).tolist())
        )
        image.save(folder / f"{number}.{('png', 'jpg', 'webp')[number % 3]}")


@pytest.mark.slow
def test_200_pictures_train_a_network_that_the_program_chose_and_a_resume_keeps(tmp_path):
    """From a folder to a checkpoint of the real network, which no tiny one shows to be trainable."""
    (tmp_path / "pictures").mkdir()
    draw(tmp_path / "pictures", range(200))
    where = [f"--config.data.path={tmp_path}/pictures", f"--config.data.data_dir={tmp_path}"]
    run = epath.Path(tmp_path / "run")
    args = ["train", "image_folder:laptop", *where, f"--workdir={run}", *ARGS]
    status, out, err = ddpm(*args, "--config.train.steps=30")
    assert status == 0, err
    fields = record.flatten(record.read(run)["config"])
    assert {name: fields[name] for name in CHOSEN} == CHOSEN
    for name, value in CHOSEN.items():
        shown = tuple(value) if isinstance(value, list) else value
        assert f"\n{name} {shown}: " in f"\n{out}"
    assert "190 training pictures of 32x32 on a CPU" in out and "1,113,955 parameters" in out
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]

    draw(tmp_path / "pictures", range(200, 240))
    status, out, err = ddpm(*args, "--config.train.steps=32")
    assert status == 0, err
    assert "240 pictures" in out and "resuming from step 30" in out
    again = record.flatten(record.read(run)["config"])
    assert {name: again[name] for name in CHOSEN} == CHOSEN
    assert not any(f"\n{name} " in f"\n{out}" for name in CHOSEN)
