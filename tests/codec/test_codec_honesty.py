"""On a real network, nothing passes unnoticed: changed weights, drift, damage, hostile files."""

import time
import tracemalloc
from contextlib import suppress

import jax
import numpy as np
import pytest
from support import codec_network, gaussian_source
from support.codec_network import drifting, pictured

from ddpm_jax.codec import chain, file_header, image_file
from ddpm_jax.codec.errors import CodecError, CorruptStream, ModelMismatch

DAMAGED_BITS = 200


@pytest.fixture(scope="module")
def network(digits, tmp_path_factory):
    return codec_network.network(codec_network.run(digits, tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def portable(network):
    return codec_network.codec(network)


@pytest.fixture(scope="module")
def files(portable):
    """Images and their files."""
    return [(image, image_file.compress(image, portable, 8)) for image in pictured(3)]


def test_any_change_to_a_weight_makes_another_model(network, files):
    """Changes the last number of every array in turn, by the least step of float32."""
    leaves, tree = jax.tree.flatten(network.params)
    for place in range(len(leaves)):
        changed = [leaf.copy() for leaf in leaves]
        changed[place].reshape(-1)[-1] = np.nextafter(changed[place].reshape(-1)[-1], np.float32(9))
        other = network._replace(params=jax.tree.unflatten(tree, changed))
        with pytest.raises(ModelMismatch):
            image_file.decompress(files[0][1], codec_network.codec(other))


def test_weights_off_by_a_hundredth_are_noticed_even_if_their_hash_is_forged(
    network, portable, files
):
    random = np.random.default_rng(0)

    def off(leaf):
        return (leaf * (1.0 + 0.01 * random.normal(size=leaf.shape))).astype(np.float32)

    near = codec_network.codec(network._replace(params=jax.tree.map(off, network.params)))
    assert near.model != portable.model
    for _, file in files:
        with pytest.raises(CorruptStream, match="drift"):
            image_file.decompress(file, near._replace(model=portable.model))


def test_a_damaged_file_raises_or_gives_the_same_pixels(portable, files):
    """Any byte of the header, or any of 200 bits of the payload, is changed; never does another image come out."""
    random, raised, tried = np.random.default_rng(0), 0, 0
    for image, file in files:
        header = file_header.unpack(file)[1]
        for place in range(header):
            content = bytearray(file)
            content[place] ^= int(random.integers(1, 256))
            with pytest.raises(CodecError):
                image_file.decompress(bytes(content), portable)
        bits = 8 * (len(file) - header)
        for place in random.choice(bits, -(-DAMAGED_BITS // len(files)), replace=False):
            content = bytearray(file)
            content[header + place // 8] ^= 1 << (place % 8)
            tried += 1
            try:
                out = image_file.decompress(bytes(content), portable)
            except CorruptStream:
                raised += 1
            else:
                assert (out.image == image).all()
    assert tried >= DAMAGED_BITS and raised > 0.9 * tried


def test_hostile_files_take_little_memory_and_time(portable, files):
    """Headers that claim much under a right checksum, and payloads with endless numbers."""
    header, start = file_header.unpack(files[0][1])
    payload = files[0][1][start:]
    larger = [{"shape": (8192, 8192, 1)}, {"shape": (1, 2**26, 1)}, {"payload": 2**35 - 1}]
    larger += [{"steps": 255}, {"nu": 16}, {"shape": (2**34, 2**34, 2**34)}, {"scale": 31}]
    hostile = [file_header.pack(header._replace(**each)) + payload for each in larger]
    hostile += [files[0][1][:start] + each * len(payload) for each in (b"\0", b"\xff", b"\xaa")]
    hostile += [files[0][1] + bytes(10**6), files[0][1][:18] + b"\xff" * 100]
    for content in [files[0][1], *hostile]:
        tracemalloc.start()
        began = time.process_time()
        for max_bytes in (None, len(content)):
            with suppress(CodecError):
                out = image_file.decompress(content, portable, max_bytes)
                assert not out.lossless or content == files[0][1]
        spent, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert spent < 20 and peak < 1e8, content  # nu = 16 has a trellis of 25 MB, built in pieces


def test_drift_of_half_the_margin_changes_nothing(portable, files):
    half = drifting(portable, lambda t: 0.5 * chain.MARGIN / portable.signal[t])
    for image, file in files:
        out = image_file.decompress(file, half)
        assert out.lossless and (out.image == image).all()


def test_drift_of_a_millionth_is_noticed():
    """Of about 90,000 outputs an image, 190 lie that near a rounding boundary, so no file decodes."""
    shape = (32, 32, 3)
    of = gaussian_source.codec(shape)
    half = drifting(of, lambda t: 0.5 * chain.MARGIN / of.signal[t])
    for image in gaussian_source.images(shape, 2, seed=6):
        file = image_file.compress(image, of, 8)
        assert (image_file.decompress(file, half).image == image).all()
        with pytest.raises(CorruptStream, match="drift"):
            image_file.decompress(file, drifting(of, lambda t: 1e-6))


@pytest.mark.parametrize("variance", ["learned_range", "learned"])
def test_a_network_that_learns_its_variance_can_be_used(digits, tmp_path, variance):
    """The codec uses the half of its output that predicts x_0-hat."""
    loss = {"learned_range": "hybrid", "learned": "vlb"}[variance]
    run = codec_network.run(digits, tmp_path, variance=variance, loss=loss)
    assert run.model.network.out_channels == 2
    of = codec_network.codec(codec_network.network(run))
    for image in pictured(2):
        out = image_file.decompress(image_file.compress(image, of, 8), of)
        assert out.lossless and (out.image == image).all()
