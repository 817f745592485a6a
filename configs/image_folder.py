"""Your own pictures, from a folder; the argument names a machine:

    python -m ddpm_jax.main --config=configs/image_folder.py:laptop --config.data.path=DIR

    row      pictures  network and training
    laptop   32x32     about a million parameters, 4,000 steps: tens of minutes on 2 CPU cores
    gpu      64x64     a network as wide as the number of pictures allows, 100,000 steps: hours on one GPU
    tpu      64x64     cifar10.py's, with one more level, and its 800,000 steps; the row without an argument

Pictures of any size and format that pillow reads are turned upright, put on a background where they are
transparent ('data.background', 0 black to 255 white), cropped to the central square and resized to
'data.image_size'; 'data.channels' = 1 makes them gray. This happens once, and again after the folder has
changed. Subfolders of DIR are classes, in the natural order of their names. An unreadable file stops the
preparation with its name; 'data.skip_unreadable' leaves such files out. 'data.flip' mirrors at random; set it
to False for text or maps.
DIR may also be a .npy or .npz file of images.

"auto" becomes a value that fits the pictures, the device or the number of steps, which training says. Any value
may stand in its place: heights of your own for 'model.attention', such as (24, 12), must be among the network's,
image_size and its half for each further multiplier.

The paper has no such runs. Neither gpu nor tpu has been run.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict, FieldReference

ROWS = ("laptop", "gpu", "tpu")


def auto() -> FieldReference:
    """A field of any type, which is chosen when a run is made."""
    return FieldReference("auto", object)


def get_config(row: str = "tpu") -> ConfigDict:
    if row not in ROWS:
        raise ValueError(
            f"image_folder.py has no row {row!r}; write image_folder.py:ROW, where ROW is one of {', '.join(ROWS)}"
        )
    config = runpy.run_path(str(Path(__file__).with_name("cifar10.py")))["get_config"]()
    config.data = ConfigDict(
        {
            "name": "image_folder",
            "path": "",  # a folder, or a .npy or .npz file
            "data_dir": "",  # of prepared data sets; "" is TFDS's own
            "image_size": 64,
            "channels": 3,  # 1 for gray
            "background": 255,  # the grey level behind transparent pictures
            "skip_unreadable": False,  # True leaves unreadable pictures out
            "split": "train[:95%]",
            "held_out": "train[95%:]",  # the split to measure on
            "flip": True,
        }
    )
    config.model.multipliers = (1, 2, 2, 2, 2)
    config.model.attention = auto()
    if row != "tpu":
        config.model.channels, config.model.multipliers = auto(), auto()
        config.optimizer.warmup, config.optimizer.ema_decay = auto(), auto()
        config.train.checkpoint_minutes = 10.0
    if row == "gpu":
        config.train.update(steps=100_000, batch_size=64)
        config.eval.update(images=64, batch_size=64)
    if row == "laptop":
        fit_laptop(config)
    return config


def fit_laptop(config: ConfigDict) -> None:
    """Sets what a CPU has time for."""
    config.data.image_size = 32
    config.model.blocks = 1
    config.optimizer.learning_rate = 1e-3
    config.train.update(steps=4000, batch_size=16, log_every=50)
    config.train.update(checkpoint_every=500, sample_every=1000, keep_every=0)
    # After so short a training the ancestral chain mends its errors, which few steps of an ODE's solver keep as
    # wrong colours and noise. With a part of the steps its fixed_large would leave grain.
    config.diffusion.variance = "fixed_small"
    for section in (config.train.grid, config.sample):
        section.solver, section.steps = "ancestral", 250
    config.sample.update(count=64, batch_size=64)
    config.eval.update(images=16, batch_size=16, steps=50)
