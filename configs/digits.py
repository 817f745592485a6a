"""8x8 handwritten digits, minutes on a laptop:

python -m ddpm_jax.main --config=configs/digits.py
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "data": {
                "name": "digits",
                "data_dir": "",
                "image_size": 8,
                "split": "train",
                "held_out": "test",
                "flip": False,
            },
            "model": {
                "channels": 20,
                "multipliers": (1, 2),
                "blocks": 1,
                "attention": (4,),
                "dropout": 0.0,
                "dtype": "auto",
            },
            "diffusion": {
                "schedule": {"name": "linear", "T": 100, "beta_1": 1e-3, "beta_T": 0.2},
                "output": "eps",
                "variance": "fixed_large",
                "loss": "simple",
                "log_cdf": "normal",
            },
            "optimizer": {
                "learning_rate": 4e-3,
                "warmup": 100,
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "ema_decay": 0.995,
            },
            "train": {
                "steps": 2500,
                "batch_size": 64,
                "clip": 1.0,
                "clip_groups": 1,
                "log_every": 100,
                "checkpoint_every": 500,
                "sample_every": 500,
                "keep": 2,
                "keep_every": 0,
                "keep_best": "",
                "grid": {"solver": "ancestral", "steps": 100, "eta": 0.0, "count": 64},
            },
            "parallel": {"devices": 0},
            "sample": {
                "solver": "ancestral",
                "steps": 100,
                "eta": 0.0,
                "count": 64,
                "batch_size": 64,
                "seed": 0,
            },
            "eval": {"images": 360, "steps": 100, "batch_size": 120, "seed": 0},
        }
    )
