"""Digits with their labels, to draw a chosen digit.

    python -m ddpm_jax.main --config=configs/digits_conditional.py
    python -m ddpm_jax.main --workdir=runs/digits_conditional --mode=sample \
        --config.sample.label=7 --config.sample.guidance=2

This is digits.py's run with a network that sees the label. Training hides one label in ten, so the network
also learns the unconditional model, from which classifier-free guidance (Ho and Salimans 2022) extrapolates
with weight 'sample.guidance' = w. With w = 0 it is the plain conditional model. Without 'sample.label',
sample i shows the digit i mod 10.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("digits.py")))["get_config"]()
    config.model.classes = 10
    config.train.label_dropout = 0.1
    return config
