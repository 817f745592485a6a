"""The paper's larger LSUN Bedroom run at 256x256: 256 million parameters.

    python -m ddpm_jax.main --mode=prepare --config=configs/lsun_bedroom256_large.py \
        --source=bedroom_train_lmdb --config.data.data_dir=DIR
    python -m ddpm_jax.main --config=configs/lsun_bedroom256_large.py --config.data.data_dir=DIR \
        --workdir=gs://bucket/lsun_bedroom256_large

The first command, needed once, crops and resizes the images of the unzipped LMDB as StyleGAN2's release did.

The paper: 1,150,000 steps; FID 4.90. It says only that there are more filters; 192 is the only width that
gives its 256 million parameters. Flips are as in lsun_bedroom256.py.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("lsun_bedroom256.py")))["get_config"]()
    config.model.channels = 192
    config.train.steps = 1_150_000
    return config
