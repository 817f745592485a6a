"""docs/notebook.ipynb runs from its first cell to its last, on a trained run, without a word of complaint."""

import os
import shutil
from pathlib import Path

import nbclient
import nbformat
import pytest
from conftest import ROOT
from support.command import ddpm

pytestmark = pytest.mark.slow  # for the libraries that only this test needs, and a training or two
TRAINED = os.environ.get(
    "DDPM_JAX_DIGITS", ""
)  # a run of digits.py; without one a short one is trained


def test_the_notebook_runs_on_a_trained_run(digits, tmp_path):
    """In a kernel of its own: what a reader has in front of them after 'ddpm train digits'."""
    run = tmp_path / "runs" / "digits"
    if TRAINED:
        shutil.copytree(TRAINED, run)
    else:
        short = ["--config.train.steps=20", "--config.optimizer.ema_decay=0.5"]
        status, _, err = ddpm("train", "digits", *short, f"--workdir={run}")
        assert status == 0, err
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", 4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('"train.steps": 300', '"train.steps": 20')
        cell.source = cell.source.replace(
            '"optimizer.ema_decay": 0.98', '"optimizer.ema_decay": 0.5'
        )
        cell.pop("outputs", None)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(digits)}
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.output_type == "stream"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 7
    said = "".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "((16, 8, 8, 1), dtype('uint8'))" in said and "Trained('short', step 20, ema" in said


def test_the_notebook_as_it_lies_here_was_run_and_names_no_machine():
    text = Path(ROOT / "docs" / "notebook.ipynb").read_text()
    assert text.count('"image/png"') == 7 and '"stderr"' not in text
    assert "/home/" not in text and "/tmp/" not in text and "site-packages" not in text
