"""The codec of a real network: it computes in float64, its hash covers everything that matters, and its measurements are right."""

import json

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from scipy import stats
from support import codec_network
from support.codec_network import pictured

from ddpm_jax import diffusion, parameterization
from ddpm_jax.codec import calibration, image_file, measure, model
from ddpm_jax.codec.commands import pictures
from ddpm_jax.codec.primitives import poisson
from ddpm_jax.datasets import pixels
from ddpm_jax.run import model as models


@pytest.fixture(scope="module")
def network(digits, tmp_path_factory):
    return codec_network.network(codec_network.run(digits, tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def portable(network):
    return model.codec(*network)


def test_the_portable_network_is_float64_all_through(portable):
    """A change of 1e-9 moves its output linearly, which a float32 anywhere inside would prevent."""
    x = np.random.default_rng(1).normal(size=(8, 8, 1)) * 0.1
    way = np.random.default_rng(2).normal(size=x.shape)
    change = [portable.predict(x + size * way, 2) - portable.predict(x, 2) for size in (1e-9, 2e-9)]
    inside = np.abs(portable.predict(x, 2)) < 0.999
    assert inside.mean() > 0.5 and np.abs(change[0][inside]).max() > 1e-10
    np.testing.assert_allclose(change[1][inside], 2 * change[0][inside], atol=1e-13)


def test_the_codecs_network_is_the_ordinary_denoiser(network, portable):
    of, _, params, _ = network
    x = np.random.default_rng(1).normal(size=(1, 8, 8, 1)).astype(np.float32)
    ordinary = jax.jit(lambda p, x, t: models.denoiser(of, p)(x, t).x_0)(params, x, np.array([3]))
    np.testing.assert_allclose(portable.predict(x[0].astype(float), 3), ordinary[0], atol=1e-4)


def test_both_profiles_round_trip_images_of_17_levels(network, portable):
    local = model.codec(*network, profile="local")
    for codec in (portable, local):
        for image in pictured(3):
            out = image_file.decompress(image_file.compress(image, codec), codec)
            assert out.lossless and (out.image == image).all()


def test_the_hash_depends_on_every_weight_and_number_that_matters_and_on_no_other(
    network, portable
):
    of, config, params, plan = network
    seen = {portable.model}

    def name(params=params, config=config, plan=plan):
        return model.model_hash(of, config, jax.tree.map(np.asarray, params), plan)

    leaves, tree = jax.tree.flatten(params)
    for place in range(len(leaves)):
        changed = [leaf.copy() for leaf in leaves]
        changed[place].reshape(-1)[-1] = np.nextafter(changed[place].reshape(-1)[-1], np.float32(9))
        seen.add(name(params=jax.tree.unflatten(tree, changed)))
    seen.add(name(plan=plan._replace(sigma=plan.sigma + 1)))
    schedule = config["diffusion"] | {"schedule": config["diffusion"]["schedule"] | {"T": 9}}
    seen.add(name(config=config | {"diffusion": schedule}))
    assert len(seen) == len(leaves) + 3
    same = {"dtype": "bfloat16", "dropout": 0.5, "name": "unet"}
    assert name(config=config | {"model": config["model"] | same}) == portable.model
    assert name(config=config | {"model": config["model"] | {"name": "mlp"}}) not in seen


def test_a_calibration_is_read_as_it_was_written(network, portable, tmp_path):
    of, config, params, plan = network
    path = calibration.file_path(epath.Path(tmp_path), 7)
    with pytest.raises(ValueError, match="--mode=calibrate"):
        calibration.read(path)
    calibration.write(path, plan, {"images": 1})
    again = model.codec(of, config, params, calibration.read(path))
    assert again.model == portable.model
    record = json.loads(path.read_text())
    for damage in ({"sigma": [1]}, {"version": 9}, {"times": [3, 3, 1]}, {"budget": None}):
        broken = record | {"calibration": record["calibration"] | damage}
        path.write_text(json.dumps(broken))
        with pytest.raises(ValueError, match="is damaged"):
            calibration.read(path)


def test_a_network_of_means_is_refused(network):
    of, config, params, plan = network
    with pytest.raises(ValueError, match="output=x_prev"):
        model.codec(of._replace(parameterization=parameterization.x_prev), config, params, plan)
    with pytest.raises(ValueError, match="model.classes is 10: .*model.classes=0"):
        model.check(of._replace(network=of.network.clone(classes=10)))


def test_the_measured_error_is_that_of_the_denoiser(network):
    """With a network that predicts no noise, x_0-hat - x_0 is the scaled noise, unclipped."""
    of, _, params, _ = network
    silent = jax.tree.map(np.zeros_like, params)
    grey = np.full((256, 8, 8, 1), 8, np.uint8)  # 0 on [-1, 1]
    sched, times = of.sched, np.array([1, 2])
    found = measure.errors(of, silent, grey, times)
    noise = (1 - sched.alpha_bar[times]) / sched.alpha_bar[times]
    np.testing.assert_allclose(found, noise, rtol=0.04)
    curve = calibration.error_curve(sched, np.array([1, sched.T]), np.array([0.1, 0.2]))
    assert curve[0] == pytest.approx(0.1) and curve[-1] == pytest.approx(0.2)


def zipf_bits_in_closed_form(kl):
    """Mean bits of an index beyond the KL. Candidates from p arrive at rate one, and the one with the least
    arrival / r, r = q/p, is chosen. That least value W is Exp(1), and the chosen z is a draw from q. By then
    W (r(z) P(r < r(z)) - Q(r < r(z))) = W h losers have arrived on average: K - 1 is geometric.
    """
    shift = np.sqrt(2 * np.log(2) * kl)
    z = shift + np.linspace(-7, 7, 401)
    h = np.exp(shift * z - shift**2 / 2) * stats.norm.cdf(z) - stats.norm.cdf(z - shift)
    k = np.arange(1, 20001)
    few = stats.geom.pmf(k, 1 / (1 + np.minimum(h, 1e3))[:, None]) @ np.log2(k)
    log_k = np.where(h < 1e3, few, np.log2(1 + h) - np.euler_gamma / np.log(2))
    mean = np.trapezoid(log_k * stats.norm.pdf(z - shift), z)
    return poisson.bits(1, kl) + (1 + 1 / (kl + 1.53)) * mean - kl


@pytest.mark.parametrize("kl, extra", [(1.0, 2.23), (2.0, 2.60), (4.0, 3.02), (6.0, 3.31)])
def test_the_closed_form_length_of_an_index_has_known_values(kl, extra):
    assert zipf_bits_in_closed_form(kl) == pytest.approx(extra, abs=0.02)


@pytest.mark.parametrize("kl, rho2", [(2.0, 1.0), (3.0, 0.8)])
def test_the_poisson_coder_draws_from_q_with_indices_of_the_known_length(kl, rho2):
    """Draws are q's, along the mean and across it; the index has the closed form's length within 0.1 bit."""
    shift = np.sqrt(2 * np.log(2) * kl)
    mean = shift * np.array([0.6, -0.8])
    drawn = [poisson.draw((b"m", 0, each), mean, rho2, 1 << 12) for each in range(400)]
    away = (np.array([z for _, z in drawn]) - mean) / np.sqrt(rho2)
    for along in ((0.6, -0.8), (0.8, 0.6)):
        assert stats.kstest(away @ along, "norm").pvalue > 1e-3
    expected = kl + zipf_bits_in_closed_form(kl)
    if rho2 == 1.0:
        told = poisson.bits(np.array([index for index, _ in drawn]), kl)
        assert abs(told.mean() - expected) < 4 * told.std() / 20
    lengths = poisson.bits(poisson.indices(kl, 10000, 1 << 12), kl)
    assert lengths.mean() == pytest.approx(expected, abs=0.1)


def test_pictures_are_read_as_written_and_others_are_refused(tmp_path):
    image, path = pictured(1)[0], epath.Path(tmp_path) / "a.png"
    pictures.write(path, image, 17)
    assert (pictures.read(path, (8, 8, 1), 17) == image).all()
    assert (np.asarray(Image.open(path)) == pixels.stretch(image[None], 17)[0, ..., 0]).all()
    for shape, levels, words in (
        ((8, 8, 3), 17, "this model's images are 8x8x3"),
        ((8, 16, 1), 17, "8x16x1"),
        ((8, 8, 1), 2, "this model's images have 2 grey levels"),
    ):
        with pytest.raises(ValueError, match=words):
            pictures.read(path, shape, levels)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    with pytest.raises(ValueError, match="8 bits"):
        pictures.read(path, (8, 8, 1), 256)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="damaged|not a picture"):
        pictures.read(path, (8, 8, 1), 256)


def test_the_bound_of_a_perfect_denoiser_is_the_mismatch_of_variances(network):
    """If x_0 is known, the KL of a step is that of the variances alone, the same for every image."""
    of, _, _, plan = network
    image = pictured(1)[0]
    x_0 = image * (2.0 / 16) - 1.0
    found = measure.bound(of.sched, plan, lambda x_t, t: x_0, image, 17, 0)
    expected = 64 * 0.5 * (plan.rho2 - 1 - np.log(plan.rho2)) / np.log(2)
    np.testing.assert_allclose(found.steps, expected, rtol=1e-3)
    prior = float(
        diffusion.prior_kl(of.sched, jax.numpy.asarray(x_0[None], np.float32)).sum()
    ) / np.log(2)
    assert found.prior == pytest.approx(prior, rel=1e-4)
