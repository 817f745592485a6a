"""A classifier of noisy CIFAR-10 images that guides samples of cifar10.py (Dhariwal and Nichol 2021).

    python -m ddpm_jax.main --config=configs/cifar10_classifier.py --workdir=gs://bucket/classifier
    python -m ddpm_jax.main --workdir=gs://bucket/cifar10 --mode=sample --config.sample.label=3 \
        --config.sample.classifier=gs://bucket/classifier --config.sample.guidance=1

Their classifiers were trained on ImageNet: batch 256, 300,000 to 500,000 steps at 3e-4, weight decay 0.05,
random crops. This one has cifar10.py's flips, dropout and EMA, and no weight decay. It takes hours on a GPU
or TPU and has not been run.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("cifar10.py")))["get_config"]()
    config.diffusion.loss = "classification"
    config.model.update(channels=64, classes=10)
    config.optimizer.learning_rate = 3e-4
    config.train.update(steps=100_000, batch_size=256, sample_every=0)
    config.eval.images = 10_000
    return config
