"""Improved DDPM on CIFAR-10 (Nichol and Dhariwal 2021, arXiv:2102.09672).

    python -m ddpm_jax.main --config=configs/cifar10_improved.py --workdir=gs://bucket/improved
    python -m ddpm_jax.main --config=configs/cifar10_improved.py:vlb --workdir=gs://bucket/improved-vlb

It has the cosine schedule with T = 4000, a variance learned between beta-tilde and beta, and L_hybrid. The
row 'vlb' trains on the bound alone with importance-sampled timesteps: the paper's best bound on CIFAR-10,
2.94 bits/dim after 500,000 steps. Neither has been run here.

The network is the DDPM paper's with their depth, attention and dropout. It lacks their time-scaled norms and
multi-head attention, so it may not reach their results.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

ROWS = {"": {}, "vlb": {"loss": "vlb", "timesteps": "importance"}}


def get_config(row: str = "") -> ConfigDict:
    if row not in ROWS:
        raise ValueError(
            f"cifar10_improved.py has no row {row!r}; write cifar10_improved.py:vlb, or leave the row out"
        )
    config = runpy.run_path(str(Path(__file__).with_name("cifar10.py")))["get_config"]()
    config.model.update(blocks=3, attention=(16, 8), dropout=0.3)
    config.diffusion.schedule.update(name="cosine", T=4000)
    config.diffusion.update(variance="learned_range", loss="hybrid")
    config.diffusion.update(ROWS[row])
    config.optimizer.learning_rate = 1e-4
    config.train.steps = 500_000
    return config
