"""digits.py in continuous time; the argument names a process:

    python -m ddpm_jax.main --config=configs/digits_sde.py:vp

    row      process                                   T     sampler
    vp       variance-preserving, beta as in digits.py 100   predictor_corrector
    sub_vp   the same with less noise                  100   predictor_corrector
    ve       variance-exploding, sigma 0.02 to 20      100   predictor_corrector
    ncsn     NCSN's ten geometric levels, 0.02 to 2    10    annealed_langevin, 100 updates per level

Song & Ermon 2019 and Song et al. 2021 have images in [0, 1]; here they are in [-1, 1], so every sigma is twice
theirs. Digits are small images, so the largest sigma of ve is 20, not 100.
NCSN's x_T still holds signal, as training says; its many updates at the first level make up for that.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

# The paper's beta(t), from 0.1 to 20, divided by T.
BETAS = {"T": 100, "beta_1": 1e-3, "beta_T": 0.2}
ROWS = {
    "vp": {"name": "vp", **BETAS},
    "sub_vp": {"name": "sub_vp", **BETAS},
    "ve": {"name": "ve", "T": 100, "sigma_min": 0.02, "sigma_max": 20.0},
    "ncsn": {"name": "ve", "T": 10, "sigma_min": 0.02, "sigma_max": 2.0},
}


def get_config(row: str = "") -> ConfigDict:
    if row not in ROWS:
        raise ValueError(
            f"digits_sde.py has no row {row!r}; write digits_sde.py:ROW, where ROW is one of {', '.join(ROWS)}"
        )
    config = runpy.run_path(str(Path(__file__).with_name("digits.py")))["get_config"]()
    config.diffusion.schedule = ConfigDict(ROWS[row])
    config.diffusion.timesteps = "uniform" if row == "ncsn" else "continuous"
    solver = "annealed_langevin" if row == "ncsn" else "predictor_corrector"
    for section in (config.sample, config.train.grid):
        section.solver = solver
    return config
