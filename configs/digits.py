"""8x8 handwritten digits with 17 grey levels, trained in minutes on a laptop:

    python -m ddpm_jax.main --config=configs/digits.py

2400 steps of a 275,381-parameter network take about four minutes on two CPU cores. Expect about
2.42 bits/dim on the 360 held-out digits (seed 0) and legible digits in the sample grid. The paper has
no such run: T = 100 with ten times its beta reaches the same noise in a tenth of the steps.

"auto" becomes a value that fits the run, here all T steps; any number may stand in its place.
"""

from ml_collections import ConfigDict, FieldReference


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
                "classes": 0,
            },
            "diffusion": {
                "schedule": {"name": "linear", "T": 100, "beta_1": 1e-3, "beta_T": 0.2},
                "output": "eps",
                "variance": "fixed_large",
                "loss": "simple",
                "timesteps": "uniform",
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
                "steps": 2400,
                "batch_size": 64,
                "clip": 1.0,
                "clip_groups": 1,
                "label_dropout": 0.0,
                "on_nonfinite": "stop",
                "log_every": 100,
                "checkpoint_every": 600,
                "sample_every": 1200,
                "keep": 2,
                "keep_every": 0,
                "keep_best": "",
                "grid": {
                    "solver": "ancestral",
                    "steps": FieldReference("auto", object),
                    "eta": 0.0,
                    "count": 64,
                },
            },
            "parallel": {"devices": 0, "params": "replicated", "accumulation": 1, "remat": ()},
            "sample": {
                "solver": "ancestral",
                "steps": FieldReference("auto", object),
                "eta": 0.0,
                "spacing": "linear",
                "langevin": {"corrections": 1, "snr": 0.16, "updates": 100, "step_size": 0.2},
                "count": 64,
                "batch_size": 64,
                "seed": 0,
                "guidance": 0.0,
                "label": -1,
                "classifier": "",
            },
            "eval": {
                "images": 360,
                "train_images": 0,
                "steps": FieldReference("auto", object),
                "batch_size": 120,
                "seed": 0,
                "best": "",
                "quality": {
                    "samples": 360,
                    "path": "",
                    "space": "classifier",
                    "inception": "",
                    "reference": "",
                },
            },
        }
    )
