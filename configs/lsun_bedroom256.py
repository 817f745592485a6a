"""The paper's LSUN Bedroom run at 256x256.

    python -m ddpm_jax.main --mode=prepare --config=configs/lsun_bedroom256.py \
        --source=bedroom_train_lmdb --config.data.data_dir=DIR
    python -m ddpm_jax.main --config=configs/lsun_bedroom256.py --config.data.data_dir=DIR \
        --workdir=gs://bucket/lsun_bedroom256

The first command, needed once, crops and resizes the images of the unzipped LMDB as StyleGAN2's release did.

The paper: TPU v3-8, 2,400,000 steps at 2.2 steps/s, 303 hours; FID 6.36. The paper flips images everywhere
but here; the release's script flips them here too. This config follows the paper; --config.data.flip=True
follows the script.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("celebahq256.py")))["get_config"]()
    config.data.update(name="lsun_bedroom256", flip=False)
    config.train.steps = 2_400_000
    return config
