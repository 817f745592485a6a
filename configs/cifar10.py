"""The paper's CIFAR-10 run, L_simple, Table 1.

    python -m ddpm_jax.main --config=configs/cifar10.py --workdir=gs://bucket/cifar10

The paper: TPU v3-8, 800,000 steps at 21 steps/s, 10.6 hours; FID 3.17 against the training set and
5.24 against the test set, IS 9.46 +- 0.11, at most 3.75 bits/dim on the test set. To draw 50,000 samples:

    python -m ddpm_jax.main --workdir=gs://bucket/cifar10 --mode=sample --config.sample.count=50000

To compute the bound on the whole test set, with all 1000 terms:

    python -m ddpm_jax.main --workdir=gs://bucket/cifar10 --mode=evaluate \
        --config.eval.images=10000 --config.eval.steps=1000

'train.clip_groups' = 8 clips the gradient as on the v3-8, where each of the eight cores clipped its own.
"auto" becomes a value that fits the run, here all T steps; any number may stand in its place.
"""

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "data": {
                "name": "cifar10",
                "data_dir": "",
                "image_size": 32,
                "split": "train",
                "held_out": "test",
                "flip": True,
            },
            "model": {
                "channels": 128,
                "multipliers": (1, 2, 2, 2),
                "blocks": 2,
                "attention": (16,),
                "dropout": 0.1,
                "dtype": "auto",
                "classes": 0,
            },
            "diffusion": {
                "schedule": {"name": "linear", "T": 1000, "beta_1": 1e-4, "beta_T": 0.02},
                "output": "eps",
                "variance": "fixed_large",
                "loss": "simple",
                "timesteps": "uniform",
                "log_cdf": "tanh",
            },
            "optimizer": {
                "learning_rate": 2e-4,
                "warmup": 5000,
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "ema_decay": 0.9999,
            },
            "train": {
                "steps": 800_000,
                "batch_size": 128,
                "clip": 1.0,
                "clip_groups": 1,
                "label_dropout": 0.0,
                "on_nonfinite": "stop",
                "log_every": 100,
                "checkpoint_every": 5000,
                "sample_every": 5000,
                "keep": 2,
                "keep_every": 50_000,
                "keep_best": "",
                # "auto" is 20 steps of DDIM, so that a grid takes seconds; --mode=sample runs all T.
                "grid": {
                    "solver": "ddim",
                    "steps": FieldReference("auto", object),
                    "eta": 0.0,
                    "count": 16,
                },
            },
            "parallel": {"devices": 0, "params": "replicated", "accumulation": 1, "remat": ()},
            "sample": {
                "solver": "ancestral",
                "steps": FieldReference("auto", object),
                "eta": 0.0,
                "spacing": "linear",
                "langevin": {"corrections": 1, "snr": 0.16, "updates": 100, "step_size": 0.2},
                "count": 256,
                "batch_size": 256,
                "seed": 0,
                "guidance": 0.0,
                "label": -1,
                "classifier": "",
            },
            "eval": {
                "images": 0,
                "train_images": 0,
                "steps": FieldReference("auto", object),
                "batch_size": 256,
                "seed": 0,
                "best": "",
                "quality": {
                    "samples": 0,
                    "path": "",
                    "space": "inception",
                    "inception": "",
                    "reference": "",
                },
            },
        }
    )
