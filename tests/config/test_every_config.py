"""What every config reads: each image once an epoch, however many share it, and what is on disk."""

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import CONFIGS, load
from etils import epath
from PIL import Image
from support import sources

from ddpm_jax.config import data
from ddpm_jax.datasets import batches as data_batches
from ddpm_jax.datasets import library
from ddpm_jax.distributed import mesh

ROW = {"ablation": ("eps-simple",), "digits_sde": ("ncsn",), "cifar10_sde": ("vp",)}
NAMES = [path.stem for path in sorted(CONFIGS.glob("*.py"))]


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory, digits):
    """All data sets, small."""
    folder = tmp_path_factory.mktemp("sets")
    lsun, faces, rng = folder / "lmdb", folder / "faces.tar", np.random.default_rng(0)
    lsun.mkdir()
    sources.lsun(lsun)
    sources.celeb_a_hq(faces)
    for name in library.FROM_SOURCE:
        library.prepare_from_source(name, str(folder), str(faces if "celeb" in name else lsun))
    (folder / "pictures").mkdir()
    for i in range(37):
        pixels = rng.integers(0, 256, (70, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
    packed = sources.archive(sources.few(rng, 35), sources.few(rng, 7))
    library.open_builder("digits", str(folder))
    with pytest.MonkeyPatch.context() as patch:
        archive = epath.Path(folder / "cifar.tar.gz")
        archive.write_bytes(packed)
        patch.setattr(tfds.download.DownloadManager, "download", lambda self, url: archive)
        library.open_builder("cifar10", str(folder))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_is_every_image_once_over_1_2_and_4_processes(name, data_dir, monkeypatch):
    source, seed = opened(name, data_dir), 3
    size, count = 8, source.count
    needed = -(-count // size)
    for processes in (1, 2, 4):
        monkeypatch.setattr(jax, "process_count", lambda n=processes: n)
        parts = []
        for process in range(processes):
            monkeypatch.setattr(jax, "process_index", lambda k=process: k)
            rows = mesh.local_rows(size)
            parts.append(
                [data_batches.batch_indices(count, seed, size, n, rows) for n in range(needed)]
            )
        batches = [np.concatenate(batch) for batch in zip(*parts, strict=True)]
        epoch = np.concatenate(batches)[:count]
        np.testing.assert_array_equal(np.sort(epoch), np.arange(count))


@pytest.mark.parametrize("name", NAMES)
def test_images_are_what_tfds_itself_decodes(name, data_dir):
    source = opened(name, data_dir)
    section = load(name, *ROW.get(name, ())).data
    if name == "image_folder":
        (info,) = (data_dir / "image_folder").rglob("dataset_info.json")
        builder = tfds.builder_from_directory(info.parent)
    else:
        builder = tfds.builder(section.name, data_dir=str(data_dir))
    direct = builder.as_data_source(section.split)
    some = np.random.default_rng(0).integers(0, source.count, 6)
    whole = data_batches.load(source)
    assert len(direct) == source.count and isinstance(whole.records, np.ndarray)
    expected = np.stack([direct[int(i)]["image"] for i in some])
    for reading in (source, whole):
        np.testing.assert_array_equal(reading.read(some), expected)


def opened(name, data_dir):
    config = load(name, *ROW.get(name, ()))
    config.data.data_dir = str(data_dir)
    if name == "image_folder":
        config.data.path = str(data_dir / "pictures")
    return data.data_source(config.data.to_dict()).open(config.data.split)
