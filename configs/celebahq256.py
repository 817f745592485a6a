"""The paper's CelebA-HQ run at 256x256, whose samples are its Figures 1 and 11.

    python -m ddpm_jax.main --mode=prepare --config=configs/celebahq256.py --source=data256x256.tar
    python -m ddpm_jax.main --config=configs/celebahq256.py --workdir=gs://bucket/celebahq256

The first command, needed once, packs the 30,000 images that Progressive GAN's tools make from CelebA.

The paper: TPU v3-8, 500,000 steps at 2.2 steps/s, 63 hours; sampling 128 images took 300 s; no FID is
given. Every run at 256x256 samples with the posterior's variance, beta-tilde.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("cifar10.py")))["get_config"]()
    config.data.update(name="celeb_a_hq/256", image_size=256, held_out="")
    config.model.update(multipliers=(1, 1, 2, 2, 4, 4), dropout=0.0)
    config.diffusion.variance = "fixed_small"
    config.optimizer.learning_rate = 2e-5
    config.train.update(steps=500_000, batch_size=64, checkpoint_every=2000)
    config.sample.update(count=128, batch_size=128)
    config.eval.batch_size = 64
    return config
