"""python -m ddpm_jax.datasets.prepare: a config's data set on disk, before any accelerator is had."""

import sys

import jax
from absl import flags

from ddpm_jax.cli import command_line, process_state
from ddpm_jax.cli.exit import fail, quiet_libraries
from ddpm_jax.config import data as data_section
from ddpm_jax.datasets import library
from ddpm_jax.runtime import console, signals

HELP = """Prepare the data set of a config. Interrupted, the same command goes on.

  python -m ddpm_jax.datasets.prepare --config=configs/cifar10.py
      downloads, checks and packs CIFAR-10, as training itself would.
  python -m ddpm_jax.datasets.prepare --config=configs/lsun_church256.py \\
      --source=church_outdoor_train_lmdb --config.data.data_dir=DIR
      crops and resizes LSUN's churches, from their unzipped LMDB, into DIR.
  python -m ddpm_jax.datasets.prepare --config=configs/celebahq256.py --source=data256x256.tar
  python -m ddpm_jax.datasets.prepare --config=configs/image_folder.py --config.data.path=DIR

  --config    whose 'data' section says which data set, and where it is to be
  --source    what it is made from: LSUN's LMDB, CelebA-HQ's .tar
  --config.data.FIELD=VALUE   any field of the section; data_dir is by default TFDS's place

It exits 0 when done, 2 on wrong usage, 1 when the preparation failed."""


def prepare(argv: list[str]) -> None:
    """Raises ValueError for what is wrong before anything is written, RuntimeError for what fails."""
    config, *_ = command_line.parse(argv, HELP, {})
    quiet_libraries()
    jax.config.update("jax_platforms", "cpu")  # a TPU serves one process, and this one needs none
    section = config.data.to_dict()
    data, source = data_section.of(section), flags.FLAGS.source or ""
    if source:
        library.make(section["name"], section["data_dir"], source)
    for split in filter(None, (data.split, data.held_out)):
        opened = data.open(split)
        height, width, channels = opened.shape
        console.say(f"{opened.name} {split}: {opened.count} images {height}x{width}x{channels}")


def main(argv: list[str]) -> int:
    with process_state.restored(), signals.listening():
        return command(argv)


def command(argv: list[str]) -> int:
    """The exit status of a process that does nothing else."""
    try:
        prepare(argv)
    except ValueError as error:
        return fail(error, 2)
    except signals.Stopped as stopped:
        console.say(str(stopped))
    except Exception as error:
        return fail(error, 1)
    return 0


if __name__ == "__main__":
    signals.listen()
    sys.exit(command(sys.argv))
