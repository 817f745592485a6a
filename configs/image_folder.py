"""A folder of your own pictures:

    python -m ddpm_jax.main --config=configs/image_folder.py --config.data.path=DIR

Pictures of any size and of any form that pillow reads are turned upright, laid on
'data.background' (0 black, 255 white) where they are transparent, cropped to the square at the centre
and resized to 'data.image_size'; 'data.channels' = 1 makes them gray. That is done once, and again when
the folder has changed. Folders in DIR are classes. A file that cannot be read is named and stops it;
'data.skip_unreadable' leaves such files out. 'data.flip' mirrors at random: False for text or maps. DIR may
also be a .npy or .npz of images.

The paper has no such run. The network is cifar10.py's with one level more, and the recipe is its; hours on
a GPU or TPU, not run.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("cifar10.py")))["get_config"]()
    config.data = ConfigDict(
        {
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
        }
    )
    config.model.multipliers = (1, 2, 2, 2, 2)
    return config
