"""Your own pictures, from a folder:

    python -m ddpm_jax.main --config=configs/image_folder.py --config.data.path=DIR

Pictures of any size and format that pillow reads are turned upright, put on a background where they are
transparent ('data.background', 0 black to 255 white), cropped to the central square and resized to
'data.image_size'; 'data.channels' = 1 makes them gray. This happens once, and again after the folder has
changed. Subfolders of DIR are classes, in the natural order of their names. An unreadable file stops the
preparation with its name; 'data.skip_unreadable' leaves such files out. 'data.flip' mirrors at random; set it
to False for text or maps.
DIR may also be a .npy or .npz file of images.

'model.attention' = "auto" puts attention at the network's height nearest to the paper's 16, by ratio: with five
multipliers 16 for images of 64 or 256, 12 for 96, 14 for 224. Heights of your own, such as (24, 12), must be among
the network's: image_size, and its half for each further multiplier.

The paper has no such run. Network and training are cifar10.py's, with one more level. The run takes hours on a
GPU or TPU and has not been run.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
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
    config.model.attention = FieldReference("auto", object)
    return config
