"""A folder of your own pictures:

    python -m ddpm_jax.main --config=configs/image_folder.py --config.data.path=DIR

Pictures of any size and of any form that pillow reads are turned upright, laid on
'data.background' (0 black, 255 white) where they are transparent, cropped to the square at the centre
and resized to 'data.image_size'; 'data.channels' = 1 makes them gray. That is done once, and again when
the folder has changed. Folders in DIR are classes. A file that cannot be read is named and stops it;
'data.skip_unreadable' leaves such files out. 'data.flip' mirrors at random: False for text or maps.

The paper has no such run. The network is CIFAR-10's with one level more, and so is the recipe; hours on
a GPU or TPU, not run.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "data": {
                "name": "image_folder",
                "path": "",
                "data_dir": "",
                "image_size": 64,
                "channels": 3,
                "background": 255,
                "skip_unreadable": False,
                "split": "train[:95%]",
                "held_out": "train[95%:]",
                "flip": True,
            },
            "model": {
                "channels": 128,
                "multipliers": (1, 2, 2, 2, 2),
                "blocks": 2,
                "attention": (16,),
                "dropout": 0.1,
                "dtype": "auto",
            },
            "diffusion": {
                "schedule": {"name": "linear", "T": 1000, "beta_1": 1e-4, "beta_T": 0.02},
                "output": "eps",
                "variance": "fixed_large",
                "loss": "simple",
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
                "on_nonfinite": "stop",
                "log_every": 100,
                "checkpoint_every": 5000,
                "sample_every": 5000,
                "keep": 2,
                "keep_every": 50_000,
                "keep_best": "",
                # A few steps, so that a grid takes seconds; --mode=sample takes all 1000.
                "grid": {"solver": "ddim", "steps": 20, "eta": 0.0, "count": 16},
            },
            "parallel": {"devices": 0},
            "sample": {
                "solver": "ancestral",
                "steps": 1000,
                "eta": 0.0,
                "count": 256,
                "batch_size": 256,
                "seed": 0,
            },
            "eval": {"images": 0, "steps": 1000, "batch_size": 256, "seed": 0},
        }
    )
