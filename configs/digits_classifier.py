"""A classifier of noisy digits, to guide samples of digits.py (Dhariwal and Nichol 2021, arXiv:2105.05233).

    python -m ddpm_jax.main --config=configs/digits_classifier.py
    python -m ddpm_jax.main --workdir=runs/digits --mode=sample --config.sample.label=7 \
        --config.sample.classifier=runs/digits_classifier --config.sample.guidance=2

It sees x_t with digits.py's noise and says which digit it was: the way down of a U-Net, trained by
cross-entropy. Any solver but 'ode' can be guided by it. Of a network without labels, as digits.py's, Bayes'
rule's weight is 'sample.guidance' = 1.
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
