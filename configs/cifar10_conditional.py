"""CIFAR-10 with its labels, for classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598).

    python -m ddpm_jax.main --config=configs/cifar10_conditional.py --workdir=gs://bucket/conditional
    python -m ddpm_jax.main --workdir=gs://bucket/conditional --mode=sample \
        --config.sample.label=3 --config.sample.guidance=1.5

This is cifar10.py's run with labels, of which training hides one in ten, as in that paper. The paper's own
results are for ImageNet. The run takes hours on a GPU or TPU and has not been run.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("cifar10.py")))["get_config"]()
    config.model.classes = 10
    config.train.label_dropout = 0.1
    return config
