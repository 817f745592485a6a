"""The paper's LSUN Church run at 256x256.

    python -m ddpm_jax.main --mode=prepare --config=configs/lsun_church256.py \
        --source=church_outdoor_train_lmdb --config.data.data_dir=DIR
    python -m ddpm_jax.main --config=configs/lsun_church256.py --config.data.data_dir=DIR \
        --workdir=gs://bucket/lsun_church256

The first command, needed once, crops and resizes the images of the unzipped LMDB as StyleGAN2's release did.

The paper: TPU v3-8, 1,200,000 steps at 2.2 steps/s, 152 hours; FID 7.89. Both the paper and the release's
script flip images.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("celebahq256.py")))["get_config"]()
    config.data.name = "lsun_church256"
    config.train.steps = 1_200_000
    return config
