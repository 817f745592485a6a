"""docs/python.md: every block of Python on it runs, in order."""

import re

import pytest
from conftest import ROOT

import ddpm_jax


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_the_blocks_of_the_page_run(tmp_path, monkeypatch):
    """They draw digits of the real size, in a dozen programs to compile."""
    monkeypatch.chdir(tmp_path)
    fields = {"train.checkpoint_every": 1, "train.grid.steps": 2, "eval.steps": 2}
    ddpm_jax.train("digits", "runs/digits", **{"train.steps": 2, **fields})
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 10
    found: dict = {}
    for block in blocks:
        exec(block.replace("step=1800", "step=1"), found)
    assert found["frames"].x_t.shape == (6, 16, 8, 8, 1) and found["between"].shape == (9, 8, 8, 1)
    assert found["seen"] == list(range(99, -1, -1)) and found["few"].shape == (16, 8, 8, 1)
    assert found["trained"].step == 20
