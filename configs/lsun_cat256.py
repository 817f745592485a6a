"""The paper's LSUN Cat run at 256x256.

    python -m ddpm_jax.main --mode=prepare --config=configs/lsun_cat256.py \
        --source=cat --config.data.data_dir=DIR
    python -m ddpm_jax.main --config=configs/lsun_cat256.py --config.data.data_dir=DIR \
        --workdir=gs://bucket/lsun_cat256

The first command, needed once, crops and resizes the images of the unzipped LMDB as StyleGAN2's release did.

The paper: TPU v3-8, 1,800,000 steps at 2.2 steps/s, 227 hours; FID 19.75. The paper flips images,
the release's script does not; --config.data.flip=False follows the script.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("celebahq256.py")))["get_config"]()
    config.data.name = "lsun_cat256"
    config.train.steps = 1_800_000
    return config
