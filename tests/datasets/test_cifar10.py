"""The paper's network on real CIFAR-10, by the command, for a few steps on a CPU."""

import json
import os

import numpy as np
import pytest
from support.command import ddpm

DATA = os.environ.get("DDPM_JAX_TFDS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="DDPM_JAX_TFDS names no prepared CIFAR-10"),
]


def test_it_trains_checkpoints_resumes_and_samples(tmp_path):
    """On the real data set, which nothing small stands for."""
    args = [
        "--config=configs/cifar10.py",
        f"--config.data.data_dir={DATA}",
        f"--workdir={tmp_path}",
    ]
    args += [
        "--config.parallel.devices=1",
        "--config.train.batch_size=8",
        "--config.train.log_every=1",
    ]
    args += ["--config.train.sample_every=0"]
    status, out, err = ddpm(*args, "--config.train.steps=1")
    assert status == 0, err
    assert "35,746,307 parameters" in out
    status, out, err = ddpm(*args, "--config.train.steps=2")
    assert status == 0, err
    assert "resuming from step 1" in out
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["loss"] == pytest.approx(1.0, abs=0.05)  # a network that says zero: E|eps|^2
    few = ["--config.sample.solver=ddim", "--config.sample.steps=2", "--config.sample.count=4"]
    status, out, err = ddpm(
        f"--workdir={tmp_path}", "--mode=sample", *few, "--config.sample.batch_size=4"
    )
    assert status == 0, err
    (path,) = tmp_path.glob("samples/2-ddim-2-*.npz")
    assert np.load(path)["arr_0"].shape == (4, 32, 32, 3)
