"""Files in tests/golden/, which every later version must decode, on every Python, jax and processor.

weights.npy holds the 11,621 weights of the digits network that wrote them, in the order of their sorted
names; network.json describes it and has its calibration; pixels.npy holds what the files decode to.
"""

import json

import jax
import numpy as np
import pytest
from conftest import ROOT, tiny_config
from etils import epath

from ddpm_jax.codec import archive, calibration, file_header, image_file, model
from ddpm_jax.codec.errors import CorruptStream
from ddpm_jax.config import build
from ddpm_jax.datasets import source as sources
from ddpm_jax.run import model as models
from ddpm_jax.runtime import digest

GOLDEN = epath.Path(ROOT / "tests" / "golden")


@pytest.fixture(scope="module")
def codec(digits, tmp_path_factory):
    kept = json.loads((GOLDEN / "network.json").read_text())
    config = tiny_config(digits)
    for section in ("model", "diffusion"):
        config[section].update(kept[section])
    run = build.run(config, epath.Path(tmp_path_factory.mktemp("run")))
    assert (list(run.model.shape), run.model.levels) == (kept["shape"], kept["levels"])
    calibration.write(calibration.file_path(run.directory, 1), plan_of(kept["calibration"]), {})
    plan = calibration.read(calibration.file_path(run.directory, 1))
    given = run.config, weights(run.model), plan
    return {levels: model.codec(run.model._replace(levels=levels), *given) for levels in (17, 256)}


def plan_of(kept):
    lists = {name: np.array(value) for name, value in kept.items() if name != "version"}
    return calibration.Calibration(**lists | {"times": tuple(kept["times"])})


def weights(of):
    params = jax.eval_shape(lambda key: models.initial(of, key), jax.random.key(0))
    flat, filled = np.load(GOLDEN / "weights.npy").astype(np.float32), {}
    for name, leaf in sorted(digest.leaves_by_path(params).items()):
        filled[name], flat = flat[: leaf.size].reshape(leaf.shape), flat[leaf.size :]
    assert not flat.size
    return jax.tree.unflatten(
        jax.tree.structure(params), [filled[n] for n in digest.leaves_by_path(params)]
    )


@pytest.mark.parametrize(
    "name, levels, max_bytes, lossless",
    [(0, 17, None, True), (0, 17, 50, False), (1, 17, None, True), (2, 17, None, False)]
    + [(3, 256, None, True)],
)
def test_stored_files_decode_to_the_same_pixels(codec, name, levels, max_bytes, lossless):
    """A whole file, a prefix of it, one of another trellis, one without the last layer, one of 256 levels."""
    content = (GOLDEN / f"{name}.djx").read_bytes()
    out = image_file.decompress(content, codec[levels], max_bytes)
    place = name + (name > 0 or max_bytes is not None)
    assert out.lossless == lossless and (out.image == np.load(GOLDEN / "pixels.npy")[place]).all()


def test_the_same_image_gets_the_same_header_and_a_wrong_pixel_is_noticed(codec):
    content = (GOLDEN / "0.djx").read_bytes()
    image = np.load(GOLDEN / "pixels.npy")[0]
    again = image_file.compress(image, codec[17])
    assert image_file.decompress(again, codec[17]).lossless
    header, start = file_header.unpack(content)
    same = {name: getattr(header, name) for name in ("nonce", "scale", "payload")}  # the encoder's
    assert file_header.unpack(again)[0]._replace(**same) == header
    forged = file_header.pack(header._replace(pixels=header.pixels ^ 1)) + content[start:]
    with pytest.raises(CorruptStream):
        image_file.decompress(forged, codec[17])


def test_a_stored_archive_returns_every_image(codec, digits):
    """Twelve digits, ten of them stored by bits back; each matches its checksum and the original image."""
    found = archive.unarchive((GOLDEN / "digits.djxa").read_bytes(), codec[17])
    source = sources.open_data_set("digits", str(digits), "test", 8)
    assert [member.name for member in found] == [f"{i}" for i in range(12)]
    assert (np.stack([member.image for member in found]) == source.read(np.arange(12))).all()
