"""cifar10.py in continuous time (Song et al. 2021, arXiv:2011.13456); the argument names a process:

    python -m ddpm_jax.main --config=configs/cifar10_sde.py:vp --workdir=gs://bucket/cifar10-vp

    row      process                                          sampler
    vp       beta(t) from 0.1 to 20                           predictor_corrector, 1000 steps
    sub_vp   the same with less noise                         predictor_corrector, 1000 steps
    ve       geometric sigma, from 0.02 to 100                predictor_corrector, 1000 steps

The constants are the paper's; sigma is twice its 0.01 to 50, because its images are in [0, 1] and ours in
[-1, 1]. The network and the training are cifar10.py's, not the paper's larger ones. None has been run.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

# The paper's beta(t), from 0.1 to 20, divided by T.
BETAS = {"T": 1000, "beta_1": 1e-4, "beta_T": 0.02}
ROWS = {
    "vp": {"name": "vp", **BETAS},
    "sub_vp": {"name": "sub_vp", **BETAS},
    "ve": {"name": "ve", "T": 1000, "sigma_min": 0.02, "sigma_max": 100.0},
}


def get_config(row: str = "") -> ConfigDict:
    if row not in ROWS:
        raise ValueError(
            f"cifar10_sde.py has no row {row!r}; write cifar10_sde.py:ROW, where ROW is one of {', '.join(ROWS)}"
        )
    config = runpy.run_path(str(Path(__file__).with_name("cifar10.py")))["get_config"]()
    config.diffusion.schedule = ConfigDict(ROWS[row])
    config.diffusion.timesteps = "continuous"
    config.sample.solver = "predictor_corrector"
    return config
