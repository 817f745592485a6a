"""The digits with their labels: which digit is drawn can be asked for.

    python -m ddpm_jax.main --config=configs/digits_conditional.py
    python -m ddpm_jax.main --workdir=runs/digits_conditional --mode=sample \
        --config.sample.label=7 --config.sample.guidance=2

As digits.py, but that the network is told the label, and one label in ten is hidden from it: so it
knows digits of any class too, and classifier-free guidance (Ho and Salimans 2022) goes away from them,
'sample.guidance' = w times. With w = 0 it is the plain conditional model. Without 'sample.label' sample i
is of digit i mod 10.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("digits.py")))["get_config"]()
    config.model.classes = 10
    config.train.label_dropout = 0.1
    return config
