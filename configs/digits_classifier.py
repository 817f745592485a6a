"""A classifier of noisy digits that guides samples of digits.py (Dhariwal and Nichol 2021, arXiv:2105.05233).

    python -m ddpm_jax.main --config=configs/digits_classifier.py
    python -m ddpm_jax.main --workdir=runs/digits --mode=sample --config.sample.label=7 \
        --config.sample.classifier=runs/digits_classifier --config.sample.guidance=2

It is the downward half of a U-Net, trained by cross-entropy to recognise the digit in x_t under digits.py's
noise. It can guide every solver but 'ode'. With an unconditional network, such as digits.py's, 'sample.guidance'
= 1 is the weight of Bayes' rule.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("digits.py")))["get_config"]()
    config.diffusion.loss = "classification"
    config.model.classes = 10
    config.train.sample_every = 0
    config.eval.quality.samples = 0
    return config
