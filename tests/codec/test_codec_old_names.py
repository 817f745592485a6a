"""The old Python names of the codec's functions work for one more release, with a warning that says the new name."""

import importlib
import sys

import pytest
from support.gaussian_source import codec, images

from ddpm_jax.codec import archive, image_file

SHAPE = (8, 8, 1)


@pytest.fixture
def old_module(monkeypatch):
    """Returns a function that imports an old name as if for the first time."""

    def load(name, new_name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        with pytest.warns(FutureWarning, match=f"{name} is now {new_name}$"):
            return importlib.import_module(name)

    return load


def test_files_of_the_old_functions_are_those_of_the_new_ones(old_module):
    coding = old_module("ddpm_jax.codec.coding", "ddpm_jax.codec.image_file")
    image = images(SHAPE, 1)[0]
    data = coding.compress(image, codec(SHAPE))
    assert data == image_file.compress(image, codec(SHAPE))
    assert (coding.decompress(data, codec(SHAPE)).image == image).all()


def test_archives_of_the_old_functions_are_those_of_the_new_ones(old_module):
    archives = old_module("ddpm_jax.codec.archives", "ddpm_jax.codec.archive")
    many = images(SHAPE, 2)
    data = archives.archive(many, codec(SHAPE))
    assert data == archive.archive(many, codec(SHAPE))
    members = archives.unarchive(data, codec(SHAPE))
    assert all((member.image == image).all() for member, image in zip(members, many, strict=True))
