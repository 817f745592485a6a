"""The codec as a whole, on a source whose best denoiser is known: lossless, near the bound, never silently wrong."""

import numpy as np
import pytest
from support.gaussian_source import LEVELS, SCHED, codec, images, predict

from ddpm_jax.codec import chain, file_header, image_file, measure
from ddpm_jax.codec.errors import (
    CodecError,
    CorruptStream,
    EnvironmentMismatch,
    ModelMismatch,
    TruncatedStream,
)
from ddpm_jax.codec.primitives import shared_noise, trellis

# A file of the format's first version, which every later program must read.
GOLDEN = bytes.fromhex(
    "444a584301010c08676175737369616e00100808035ea840e2466d7fc7a2ffc9efb44af0491b3f9dcdd01316"
    "cddcbcfff7d41cf8e551e7abec220d91e849146ccfe33c47634dc9396fad7c72bf415decddb0cfd3ef85d1aa"
    "657127f03350117fa40faa3c18424abfb9b2b9c0e0a1d90f1006bf313bf5a5aa8d71"
)
SMALL, LARGE = (8, 8, 3), (32, 32, 3)


def psnr(image, other):
    return -10 * np.log10(max(((image.astype(float) - other) ** 2).mean() / 255**2, 1e-9))


@pytest.fixture(scope="module")
def file():
    """An image, and its file."""
    image = images(SMALL, 1, seed=5)[0]
    return image, image_file.compress(image, codec(SMALL))


def test_a_file_of_the_first_version_is_read():
    out = image_file.decompress(GOLDEN, codec(SMALL))
    assert out.lossless and out.image[0, :2].reshape(-1).tolist() == [116, 158, 170, 113, 160, 170]


@pytest.mark.parametrize("nu", [8, 12])
def test_a_file_decodes_without_loss(nu):
    for image in images(SMALL, 4):
        out = image_file.decompress(image_file.compress(image, codec(SMALL), nu), codec(SMALL))
        assert out.lossless and out.t == 0 and (out.image == image).all()


@pytest.mark.slow
def test_files_are_as_large_as_the_bound_and_not_smaller():
    """At 32x32, files are at least as large as the bound, and without header at most 1.09 times as large.

    The bound is by the library's own formulas from exact draws, whose three standard errors are allowed.
    Slow, for the bound is sharp at this size only, where an image takes seconds.
    """
    many, of = images(LARGE, 3), codec(LARGE)
    files = [image_file.compress(image, of) for image in many]
    sizes = np.array([8 * len(file) for file in files])
    header = 8 * file_header.unpack(files[0])[1]
    draws = [
        [
            measure.bound(SCHED, of.calibration, predict, image, LEVELS, seed).total
            for seed in (0, 1)
        ]
        for image in many
    ]
    bounds = np.mean(draws, axis=1)
    ratios = sizes / bounds
    error = ratios.std(ddof=1) / np.sqrt(len(ratios))
    assert sizes.mean() / bounds.mean() > 1.0 - 3 * error
    assert (sizes.mean() - header) / bounds.mean() < 1.09
    for image, file in zip(many[:1], files[:1], strict=True):
        assert (image_file.decompress(file, of).image == image).all()


def test_random_pixels_cost_eight_bits_and_flat_images_are_coded_like_others():
    """No code maps all images of 8 bits to less. A flat image has no special case."""
    random = np.random.default_rng(0).integers(0, 256, (4, *SMALL), dtype=np.uint8)
    sizes = [len(image_file.compress(image, codec(SMALL))) for image in random]
    assert 8 * np.mean(sizes) >= 8 * random[0].size
    flat = np.full(SMALL, 77, np.uint8)
    file = image_file.compress(flat, codec(SMALL))
    assert (image_file.decompress(file, codec(SMALL)).image == flat).all() and len(file) > 100


def test_a_model_that_knows_nothing_makes_larger_files():
    image = images(SMALL, 1)[0]
    knows_nothing = codec(SMALL, predict=lambda x_t, t: np.clip(x_t, -1.0, 1.0) * 0.0)
    assert len(image_file.compress(image, knows_nothing)) > 1.3 * len(
        image_file.compress(image, codec(SMALL))
    )


def test_every_prefix_decodes_and_only_the_whole_file_is_lossless():
    shape = (8, 8, 1)
    image = images(shape, 1)[0]
    data = image_file.compress(image, codec(shape))
    header = file_header.unpack(data)[1]
    times, quality = [], []
    for length in range(header, len(data) + 1):
        out = image_file.decompress(data, codec(shape), max_bytes=length)
        assert out.lossless == (length == len(data)) and out.bytes_used <= length
        if length % 16 == 0:
            part = image_file.decompress(data[:length], codec(shape), max_bytes=length)
            assert (part.image == out.image).all()
        times.append(out.t)
        quality.append(psnr(image, out.image))
    assert times == sorted(times, reverse=True) and times[0] == SCHED.T
    quarters = [np.mean(part) for part in np.array_split(quality, 4)]
    assert quarters == sorted(quarters) and quarters[-1] > quarters[0] + 10
    for length in (header - 1, 5, 1, 0):
        with pytest.raises(CodecError):
            image_file.decompress(data, codec(shape), max_bytes=length)


def test_a_limit_on_bytes_yields_a_prefix(file):
    image, data = file
    assert image_file.compress(image, codec(SMALL), max_bytes=100) == data[:100]
    with pytest.raises(TruncatedStream, match="--max_bytes=100 decodes those"):
        image_file.decompress(data[:100], codec(SMALL))
    with pytest.raises(TruncatedStream):
        image_file.compress(image, codec(SMALL), max_bytes=10)
    with pytest.raises(CorruptStream, match="its header says"):
        image_file.decompress(data + b"\0", codec(SMALL))


def test_without_the_last_layer_it_is_lossy_and_says_so():
    image = images(SMALL, 1)[0]
    whole, part = (
        image_file.compress(image, codec(SMALL), lossless=each) for each in (True, False)
    )
    out = image_file.decompress(part, codec(SMALL))
    assert len(part) < 0.7 * len(whole) and not out.lossless and psnr(image, out.image) > 36


def test_outputs_too_close_to_rounding_are_retried_with_other_noise():
    """The network's outputs lie near a rounding boundary in the first trial."""
    image = images(SMALL, 1)[0]
    first = chain.initial_state(codec(SMALL), 0)

    def edge(x_t, t):
        close = t == SCHED.T and (x_t == first / 2.0**16).all()
        return np.full_like(x_t, 0.5 / 1024 + 1e-10) if close else predict(x_t, t)

    data = image_file.compress(image, codec(SMALL, predict=edge))
    assert file_header.unpack(data)[0].nonce == 1
    assert (image_file.decompress(data, codec(SMALL, predict=edge)).image == image).all()


def test_files_of_another_model_or_machine_are_refused(file):
    _, data = file
    with pytest.raises(ModelMismatch, match=b"gaussian".hex()):
        image_file.decompress(data, codec(SMALL, name=b"another."))
    with pytest.raises(EnvironmentMismatch, match="portable"):
        image_file.decompress(data, codec(SMALL)._replace(environment=b"here"))
    image, local = images(SMALL, 1)[0], codec(SMALL)._replace(environment=b"here")
    there = image_file.compress(image, local)
    assert image_file.decompress(there, local).lossless
    with pytest.raises(EnvironmentMismatch, match="another machine"):
        image_file.decompress(there, local._replace(environment=b"away"))
    with pytest.raises(EnvironmentMismatch, match="local profile"):
        image_file.decompress(there, codec(SMALL))


def test_x_t_has_the_noise_of_q_at_every_step():
    """(x_t - sqrt(abar) x_0) / sqrt(1 - abar) has variance one, within 5 %, averaged over images."""
    of, many = codec(LARGE), images(LARGE, 2, seed=2)
    ratios = []
    for image in many:
        sent = chain.send(of, image, image_file.NU, 0, 0.0)
        reader, x, q = chain.Reader(sent.bits, [0]), chain.initial_state(of, 0), 0
        x_0, row = image * (2.0 / 255) - 1.0, []
        for step, t in enumerate(of.calibration.times[:-1]):
            q += chain.read_unary(reader)
            count = chain.branch_count(int(of.calibration.budget[step]), q, image.size)
            branches = trellis.make_branches((of.model, 0, step), image.size, count, image_file.NU)
            z = trellis.noise(branches, chain.read_bits(reader, count))
            x = chain.add_noise(of, step, chain.mean(of, step, chain.denoise(of, x, t)[0], x), z)
            abar = SCHED.alpha_bar[of.calibration.times[step + 1]]
            row.append(((x / 65536.0 - np.sqrt(abar) * x_0) ** 2).mean() / (1 - abar))
        ratios.append(row)
    assert np.abs(np.mean(ratios, axis=0) - 1.0).max() < 0.05


def test_images_of_another_shape_or_with_other_levels_are_refused():
    with pytest.raises(ValueError, match="8x4x3; this model's are 8x8x3"):
        image_file.compress(np.zeros((8, 4, 3), np.uint8), codec(SMALL))
    with pytest.raises(ValueError, match="grey level 9"):
        image_file.compress(np.full(SMALL, 9, np.uint8), codec(SMALL)._replace(levels=9))


def test_shared_noise_depends_on_the_model_and_the_trial():
    starts = [
        chain.initial_state(codec(SMALL, name=name), nonce)
        for name, nonce in ((b"gaussian", 0), (b"gaussian", 1), (b"another.", 0))
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(starts[a].reshape(-1), starts[b].reshape(-1))[0, 1]) < 0.3
    assert shared_noise.NORMAL_BITS < chain.STATE_BITS
