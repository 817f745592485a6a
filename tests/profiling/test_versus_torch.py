"""launch/versus_torch.py on a small network; the numbers it finds are not judged."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_both_networks_are_one_size_and_both_are_timed():
    """Against torch itself."""
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    command = [sys.executable, "launch/versus_torch.py", "--config=configs/digits.py", "--eager"]
    command += ["--batch=4", "--samples=4", "--rounds=2", "--seconds=0.01", "--cpu-time"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "275,381 parameters each; float32" in done.stdout
    for what in ("train step", "sampling step"):
        rate = rf"{what}, 4 images, (ours|torch .* eager): ([\d.e+]+) images/s"
        assert all(float(found) > 0 for _, found in re.findall(rate, done.stdout))
        assert len(re.findall(rate, done.stdout)) == 2 and f"{what}: ratio " in done.stdout
