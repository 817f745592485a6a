"""cifar10.py in continuous time, with the constants of Song et al. 2021 (arXiv:2011.13456), a process per argument:

    python -m ddpm_jax.main --config=configs/cifar10_sde.py:vp --workdir=gs://bucket/cifar10-vp

    row      process                                          samples by
    vp       beta(t) from 0.1 to 20                           predictor_corrector, 1000 steps
    sub_vp   the same with less noise                         predictor_corrector, 1000 steps
    ve       sigma geometric, the paper's 0.01 to 50, twice   predictor_corrector, 1000 steps

The network and the training are cifar10.py's, not the paper's larger ones; none of these was run. Its VE has
images in [0, 1] and ours are in [-1, 1], so sigma is twice the paper's.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

BETAS = {"T": 1000, "beta_1": 1e-4, "beta_T": 0.02}
ROWS = {
    "vp": {"name": "vp", **BETAS},
    "sub_vp": {"name": "sub_vp", **BETAS},
    "ve": {"name": "ve", "T": 1000, "sigma_min": 0.02, "sigma_max": 100.0},
}


def get_config(row: str = "") -> ConfigDict:
    if row not in ROWS:
        raise ValueError(
            f"cifar10_sde.py has no row {row!r}; write cifar10_sde.py:ROW, with one of {', '.join(ROWS)}"
        )
    config = runpy.run_path(str(Path(__file__).with_name("cifar10.py")))["get_config"]()
    config.diffusion.schedule = ConfigDict(ROWS[row])
    config.diffusion.timesteps = "continuous"
    config.sample.solver = "predictor_corrector"
    return config
