"""The fields of 'seed', 'data' and 'parallel'."""

from ddpm_jax.config.reference.entry import Choice, Field, Section, changeable

SEED_RANGE = "an integer, 0 to 2^31 - 1"

SEED = Section(
    "seed",
    "The one field without a section.",
    (
        Field(
            "seed",
            "Decides the initial parameters, the order of the training images, and training's timesteps,"
            " noise, flips and dropout.",
            SEED_RANGE,
        ),
    ),
)

DATA = Section(
    "data",
    "The images to train on, and those to measure on. A section with `path`, as in"
    " `image_folder.py`, is a folder of your own pictures.",
    (
        Field(
            "data.name",
            "The data set. `digits` and `cifar10` are prepared on first use; `celeb_a_hq/256`,"
            " `lsun_bedroom256`, `lsun_cat256` and `lsun_church256` once by `--mode=prepare`. With"
            " `data.path` the name is only printed.",
            "a name of TensorFlow Datasets; its images must have one size",
        ),
        Field(
            "data.path",
            "A folder of pictures, whose subfolders are classes, or a .npy or .npz file of images,"
            " which are not resized.",
            "a path; it must be set",
            changeable=True,
        ),
        Field(
            "data.data_dir",
            "The folder of prepared data sets.",
            "a path; `''` for TFDS's own, `$TFDS_DATA_DIR` or ~/tensorflow_datasets",
            changeable=True,
        ),
        Field(
            "data.image_size",
            "The height of the images. Pictures of a folder are cropped to their central square and"
            " resized to it; those of an array or another data set must have it.",
            "pixels, 1 or more",
        ),
        Field(
            "data.channels",
            "The colours of the images. Pictures of a folder are converted; an array must match.",
            "`1` (gray) or `3` (RGB)",
        ),
        Field(
            "data.background",
            "The grey level behind transparent pictures.",
            "an integer, 0 (black) to 255 (white)",
        ),
        Field(
            "data.skip_unreadable",
            "Whether pictures and folders that cannot be read are left out. Otherwise the first one ends"
            " the preparation.",
            "`True` or `False`",
        ),
        Field(
            "data.split",
            "The split to train on.",
            "a split of the data set, or a slice such as `train[:95%]`",
        ),
        Field(
            "data.held_out",
            "The split to measure on.",
            "a split or slice; `''` for none",
        ),
        Field(
            "data.flip",
            "Whether training mirrors each image, left to right, with probability 1/2.",
            "`True` or `False`",
        ),
    ),
)

PARALLEL = Section(
    "parallel",
    "How a step is laid out over devices and memory. Its result stays the same, up to the order of"
    " floating-point sums.",
    changeable(
        Field(
            "parallel.devices",
            "How many of the devices to use. Each takes an equal share of a batch.",
            "an integer from 1 to their number; `0` for all",
        ),
        Field(
            "parallel.params",
            "Where the parameters, their average and Adam's moments lie.",
            choices=(
                Choice("replicated", "Every device holds all of them."),
                Choice("fsdp", "They are sharded over the devices, which saves memory."),
            ),
        ),
        Field(
            "parallel.accumulation",
            "The number of parts in which a batch passes the network, one after another, to save memory."
            " Each part draws its own dropout masks.",
            "an integer, 1 or more, that divides `train.batch_size` / `train.clip_groups`",
        ),
        Field(
            "parallel.remat",
            "Heights of the network at which the backward pass computes activations a second time"
            " instead of storing them, to save memory.",
            "a tuple of the network's heights (see `model.attention`); `()` for none",
        ),
    ),
)
