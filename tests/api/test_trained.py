"""Trained: what Python gives is what the command line writes; a user's own sampler, guidance, noise and labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import by_hand

import ddpm_jax
from ddpm_jax import diffusion, parameterization
from ddpm_jax.evaluation import bound
from ddpm_jax.parameterization import Denoised
from ddpm_jax.run import sampling, state
from ddpm_jax.samplers import steps


@pytest.fixture(scope="module")
def plain(loud_folder):
    """The loud run, opened once, so that what is compiled is compiled once."""
    return ddpm_jax.load(loud_folder("plain"))


@pytest.fixture(scope="module")
def labelled(loud_folder):
    return ddpm_jax.load(loud_folder("conditional"))


def same(found, expected):
    """Up to a grey level that rounding tips over here and there."""
    return found.shape == expected.shape and (found != expected).mean() < 0.01


def evaluate(denoiser, x_t):
    """x_0-hat at t = T."""
    return jax.jit(lambda x_t: denoiser(x_t, jnp.full(len(x_t), 8)).x_0)(jnp.asarray(x_t))


def by_hand_x_0(trained, x_t, label=None, w=0.0):
    """The same, put together by hand."""
    labels = None if label is None else np.full(len(x_t), label)
    average = jax.tree.map(jnp.asarray, by_hand.average(trained.run))
    return evaluate(by_hand.denoiser(trained.run, average, labels, w), x_t)


@pytest.fixture(scope="module")
def images(plain):
    return plain.sample(8, seed=3)


def test_samples_are_those_that_the_command_writes(plain, images, loud_run):
    run = loud_run(**{"sample.count": 8, "sample.seed": 3})
    written = sampling.write_samples(run, *state.read_weights(run))
    assert images.dtype == np.uint8 and np.std(images) > 20
    np.testing.assert_array_equal(images, written)


@pytest.mark.usefixtures("unchecked")
def test_x_T_begins_the_samples_of_its_seed_and_frames_end_in_them(plain, images):
    x_T = plain.x_T(8, seed=3)
    np.testing.assert_array_equal(plain.sample(x_T=x_T, seed=3), images)
    frames = plain.denoise(x_T, seed=3, frames=3)
    assert frames.t.tolist() == [8, 4, 0]
    np.testing.assert_array_equal(frames.x_t[0], x_T)
    np.testing.assert_array_equal(frames.x_0[-1], frames.x_t[-1])
    again = plain.denoise(frames.x_t[1], t=4, seed=3, frames=2)
    np.testing.assert_array_equal(again.x_0, frames.x_0[1:])
    expected = by_hand_x_0(plain, x_T)
    np.testing.assert_allclose(frames.x_0[0], expected, atol=1e-4)
    np.testing.assert_allclose(evaluate(plain.denoiser, x_T), expected, atol=1e-4)


def test_a_callback_sees_every_step_and_changes_nothing(plain, images):
    seen = []
    drawn = plain.sample(8, seed=3, callback=lambda t, x_t: seen.append((t, x_t)))
    np.testing.assert_array_equal(drawn, images)
    assert [t for t, _ in seen] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert all(x_t.shape == (8, 8, 8, 1) for _, x_t in seen)


def test_a_step_and_guidance_of_ones_own_run_in_the_place_of_the_house_s(plain, images):
    ancestral = steps.ancestral(parameterization.fixed_large)
    left = (jnp.arange(8) < 4)[:, None]  # half of every image is known: it is that of image 0
    known = jnp.asarray(images[:1]) / 127.5 - 1.0

    def inpaint(sched, x_t, out, t, s, noise):
        x_s = ancestral(sched, x_t, out, t, s, noise)
        known_s = diffusion.q_sample(sched, jnp.broadcast_to(known, x_t.shape), s, noise)
        return jnp.where(left, known_s, x_s)

    painted = plain.sample(8, seed=3, sampler=inpaint)
    assert (painted[:, :, :4] == images[0, :, :4]).all()
    assert (painted[1:, :, 4:] != images[0, :, 4:]).mean() > 0.3

    def darken(denoise):
        return lambda x_t, t: Denoised(jnp.full_like(x_t, -3.0))

    assert (plain.sample(8, seed=3, guidance=darken) == 0).all()  # and clipped after it


def test_noise_is_eq_4_with_the_noise_of_the_seed(plain, images):
    x_t = plain.noise(images, 5, seed=2)
    sched, x_0 = plain.schedule, images / 127.5 - 1.0
    signal, sigma = np.sqrt(sched.alpha_bar[5]), np.sqrt(1.0 - sched.alpha_bar[5])
    # The model's grey levels are 16 apart, and files round them to 0..255.
    np.testing.assert_allclose((x_t - signal * x_0) / sigma, plain.x_T(8, 2), atol=0.01)


@pytest.mark.usefixtures("unchecked")
def test_labels_are_numbers_or_names_for_all_images_or_one_for_each(labelled):
    drawn = labelled.sample(8, seed=5, label=["7", 2, 9, "0", 1, 1, 1, 1])
    run = labelled.run
    one = by_hand.denoiser(run, by_hand.average(run), np.array([7, 2, 9, 0, 1, 1, 1, 1]))
    assert same(drawn, by_hand.samples(run, one, np.arange(8), seed=5))
    by_array = np.array([7, 2, 9, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(labelled.sample(8, seed=5, label=by_array), drawn)
    assert same(labelled.sample(8, seed=5, label=7)[:1], drawn[:1])
    assert same(labelled.sample(8, seed=5, label=1)[4:], drawn[4:])
    assert same(labelled.sample(8, seed=5)[2:3], labelled.sample(8, seed=5, label=2)[2:3])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_a_denoiser_has_no_label_or_one_and_guidance_away_from_none(labelled):
    """Four compilations of a labelled network, by hand and as a Trained gives it."""
    x_t = labelled.x_T(8, 5)
    found = evaluate(labelled.denoiser, x_t), evaluate(labelled.denoiser_of("7", 2.0), x_t)
    expected = by_hand_x_0(labelled, x_t, 10), by_hand_x_0(labelled, x_t, 7, w=2.0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    assert np.abs(expected[0] - expected[1]).mean() > 0.01


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_bits_per_dim_are_those_that_evaluate_measures_image_by_image(plain, loud_run):
    """Two compilations of the bound, for the same images."""
    run = loud_run()
    source = run.data.open("test")
    parts = run.directory / "parts"
    parts.mkdir()
    values, _ = bound.bounds(run, state.read_weights(run)[1], source, 8, parts)
    shown = np.round(source.read(np.arange(8)) * (255 / 16)).astype(np.uint8)  # as files have them
    np.testing.assert_allclose(plain.bits_per_dim(shown, seed=7), values.total, rtol=1e-5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_between_two_images_the_ends_are_what_their_latents_decode_to(plain, images):
    """Two compilations of the ODE, up and down, which nothing cheaper shares."""
    latents = plain.encode(images)
    decoded = plain.decode(latents)
    assert latents.shape == images.shape and latents.dtype == np.float32
    between = plain.interpolate(images, images[::-1], 3)
    assert between.shape == (3, 8, 8, 8, 1)
    assert same(between[0], decoded) and same(between[2], decoded[::-1])
    assert not same(between[1], decoded)
    assert same(between[1], between[1, ::-1])  # half way from either


def test_many_images_are_drawn_in_batches_of_one_size(plain, images):
    drawn = plain.sample(11, seed=3)  # sample.batch_size is 8
    assert drawn.shape[0] == 11 and same(drawn[:8], images)
    assert len(np.unique(drawn.reshape(11, -1), axis=0)) == 11


WRONG = [
    (lambda plain: plain.sample(0), "count is 0"),
    (lambda plain: plain.sample(1, seed=-1), "seed is -1"),
    (lambda plain: plain.sample(1.5), "count is 1.5; it must be a whole number"),
    (
        lambda plain: plain.sample(x_T=np.full((8, 8, 1), np.nan)),
        "x_T holds values that are not finite",
    ),
    (lambda plain: plain.denoise(plain.x_T(1), frames=1), "frames is 1; it must be at least 2"),
    (lambda plain: plain.denoise(plain.x_T(1), t=0), "nothing left to denoise"),
    (lambda plain: plain.noise(np.zeros((8, 8, 1), np.uint8), 2.5), "it must be a whole number"),
    (lambda plain: plain.denoiser_of(3), "takes no labels"),
    (lambda plain: plain.sample(1, steps=9), "sample.steps is 9; it must lie between 1 and T = 8"),
    (lambda plain: plain.sample(1, solver="ddmi"), "did you mean ddim"),
    (lambda plain: plain.sample(1, label=3), "takes no labels"),
    (lambda plain: plain.sample(1, guidance=1.0), "takes no labels"),
    (lambda plain: plain.sample(2, x_T=plain.x_T(1)), "count is 2, but there are 1"),
    (lambda plain: plain.sample(x_T=np.zeros((1, 4, 4, 1))), "images are .n, 8, 8, 1"),
    (lambda plain: plain.denoise(np.zeros((1, 8, 8, 1), int)), "it must be float"),
    (lambda plain: plain.noise(np.zeros((1, 8, 8, 1)), 1), "they must be uint8"),
    (
        lambda plain: plain.noise(np.full((8, 8, 1), 7, np.uint8), 1),
        "the value 7; .* 0, 16, ... 255",
    ),
    (lambda plain: plain.noise(np.zeros((8, 8, 1), np.uint8), 9), "between 1 and T = 8"),
    (lambda plain: plain.denoise(plain.x_T(1), t=5, solver="ddim", steps=2), "near it are 8, 4, 0"),
    (
        lambda plain: plain.interpolate(
            np.zeros((8, 8, 1), np.uint8), np.zeros((2, 8, 8, 1), np.uint8)
        ),
        "a has 1",
    ),
    (lambda plain: plain.sample(1, sampler=lambda x_t, t, s: x_t), "must be a Step"),
    (lambda plain: plain.compress(np.zeros((8, 8, 1), np.uint8)), "--mode=calibrate"),
]


@pytest.mark.parametrize(("call", "said"), WRONG)
def test_what_does_not_fit_the_model_is_a_value_error_that_says_so(plain, call, said):
    with pytest.raises(ValueError, match=said):
        call(plain)


def test_numbers_may_be_numpy_s_and_times_one_for_each_image(plain, images):
    drawn = plain.sample(np.int64(8), seed=np.uint8(3), label=None, steps=np.int32(8))
    np.testing.assert_array_equal(drawn, images)
    times = np.arange(1, 9)
    rows = [plain.noise(images, int(t), seed=2)[i] for i, t in enumerate(times)]
    np.testing.assert_allclose(plain.noise(images, times, seed=2), rows, atol=1e-6)


def test_a_keyword_that_no_sampler_takes_is_a_type_error(plain):
    with pytest.raises(TypeError, match="unexpected keyword 'count'; expected solver, steps"):
        plain.denoise(plain.x_T(1), count=7)


def test_a_sampler_that_leaves_the_numbers_is_found_out(plain):
    def broken(sched, x_t, out, t, s, noise):
        return x_t / 0.0

    with pytest.raises(ValueError, match="returned values that are not finite"):
        plain.sample(8, sampler=broken)


def test_a_labelled_network_asks_for_the_label_of_an_image(labelled):
    with pytest.raises(ValueError, match="give label="):
        labelled.bits_per_dim(np.zeros((8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="did you mean 7"):
        labelled.sample(1, label="77")
    for label in (3.0, True, [[1, 2]]):
        with pytest.raises(ValueError, match="a class's number or name"):
            labelled.sample(1, label=label)
    with pytest.raises(ValueError, match="between 0 and 9"):
        labelled.sample(1, label=10)
    with pytest.raises(ValueError, match="2 labels for 3 images"):
        labelled.sample(3, label=[1, 2])


def test_what_was_compiled_is_used_again(plain, images):
    before = dict(plain.kept)
    plain.sample(8, seed=4, steps=None)
    assert plain.kept == before
