"""Normalisation, dropout and attention are the textbook's, however they are computed."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax.networks import layers


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@functools.partial(jax.jit, static_argnums=0)
def value_and_pullback(function, arguments, dy):
    out, pull = jax.vjp(function, *arguments)
    return out, pull(dy)


def affine(channels):
    return {"params": {"scale": normal(1, channels), "bias": normal(2, channels)}}


def test_group_norm_is_two_pass_in_32_groups_with_eps_1e_6():
    """One pass would lose the variance of numbers as far from zero as these."""
    x = 4000.0 + normal(0, 1, 8, 8, 64)
    module = layers.GroupNorm(jnp.float32)
    out, _ = module.init_with_output(jax.random.key(0), x)
    grouped = np.asarray(x, np.float64).reshape(1, 64, 32, 2)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    variance = grouped.var(axis=(1, 3), keepdims=True)
    expected = ((grouped - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    np.testing.assert_allclose(out, expected, atol=2e-3)
    zeros, _ = module.init_with_output(jax.random.key(0), 1e-3 * (x - 4000.0))
    assert float(jnp.std(zeros)) == pytest.approx(math.sqrt(0.5), rel=0.1)


@pytest.mark.parametrize("mean", [0.0, 10.0, 1000.0])
@pytest.mark.parametrize("channels", [96, 20])
def test_group_norm_and_its_gradients_are_linen_s_two_pass_ones_in_float64(x64, channels, mean):
    """Each part's mean is another, so that what is between them counts; float32 loses mean / 1e7."""
    parts = [mean + normal(0, 2, 4, 6, channels - 12), -mean + 3.0 * normal(1, 2, 4, 6, 12)]
    variables, dy = affine(channels), normal(3, 2, 4, 6, channels)
    groups = math.gcd(32, channels)
    linen = nn.GroupNorm(groups, epsilon=1e-6, use_fast_variance=False, dtype=jnp.float64)

    def ours(variables, parts):
        return layers.GroupNorm(jnp.float32).apply(variables, layers.join(parts), parts)

    def exact(variables, parts):
        return linen.apply(variables, jnp.concatenate(parts, axis=-1))

    single = jax.tree.map(lambda a: a.astype(jnp.float32), (variables, parts))
    double = jax.tree.map(lambda a: a.astype(jnp.float64), single)
    got = value_and_pullback(ours, single, dy.astype(jnp.float32))
    wanted = value_and_pullback(exact, double, dy.astype(jnp.float32).astype(jnp.float64))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=(1e-6 + 1e-7 * mean) * 4 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("mean", [0.0, 3.0, 30.0, 300.0])
def test_one_pass_over_bfloat16_costs_less_than_rounding_to_it_has(mean):
    """The error of the variance, beside that of rounding: of 8 bits, at least mean^2 2^-18 / 3."""
    x = mean + normal(0, 2, 64, 64, 32)
    rounded = x.astype(jnp.bfloat16)
    means, variances = jax.jit(layers.moments)(rounded)
    exact = np.asarray(rounded, np.float64)
    np.testing.assert_allclose(means, exact.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    error = np.abs(variances - exact.var(axis=(1, 2))).max()
    assert error < 2e-6 + mean**2 * 2.0**-18 / 3
    if mean >= 30.0:
        lost = exact.var(axis=(1, 2)) - np.asarray(x, np.float64).var(axis=(1, 2))
        assert error < 0.5 * np.abs(lost).mean()


def test_the_variance_of_a_constant_is_not_below_zero():
    x = jnp.full((1, 64, 64, 8), 1000.0, jnp.bfloat16) + normal(0, 8).astype(jnp.bfloat16)
    assert float(layers.moments(x)[1].min()) >= 0.0


def test_group_norm_can_be_differentiated_forwards_too():
    """The tangent's product with dy is the gradient's with dx: the one rule is the other's transpose."""
    x, dx, dy = (normal(seed, 2, 4, 4, 64) for seed in range(3))

    scale_and_bias = affine(64)

    @jax.jit
    def f(x):
        return layers.GroupNorm(jnp.float32).apply(scale_and_bias, x)

    along = jax.jvp(f, (x,), (dx,))[1]
    finite = (f(x + 1e-2 * dx) - f(x - 1e-2 * dx)) / 2e-2
    np.testing.assert_allclose(along, finite, atol=2e-3 * float(jnp.abs(along).max()))
    (back,) = jax.vjp(f, x)[1](dy)
    assert float((along * dy).sum()) == pytest.approx(float((back * dx).sum()), rel=1e-3, abs=1e-2)


def test_group_norm_s_second_derivative_is_linen_s():
    x, dx = normal(0, 2, 4, 4, 64), normal(1, 2, 4, 4, 64)
    linen = nn.GroupNorm(32, epsilon=1e-6, use_fast_variance=False)

    def along(module):
        cubes = jax.grad(lambda x: (module.apply(affine(64), x) ** 3).sum())
        return jax.jit(lambda x, dx: jax.jvp(cubes, (x,), (dx,))[1])(x, dx)

    wanted = along(linen)
    np.testing.assert_allclose(
        along(layers.GroupNorm(jnp.float32)), wanted, atol=1e-5 * float(jnp.abs(wanted).max())
    )


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_is_unbiased_at_its_rate(rate):
    x = jnp.ones((8, 18, 16, 64))
    out = layers.Dropout(rate).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    error = math.sqrt(rate * (1 - rate) / x.size)
    assert float((out == 0).mean()) == pytest.approx(rate, abs=4 * error)
    np.testing.assert_allclose(out[out != 0], 1 / (1 - rate), rtol=1e-6)
    assert layers.Dropout(rate).apply({}, x, False) is x


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masks_are_independent_of_themselves_shifted_and_of_other_keys_and_examples(rate):
    """By up to two in each direction, by powers of two of elements, and for neighbouring keys."""
    shape = (4, 32, 32, 64)
    masks = [layers.keep_mask(jax.random.key(seed), shape, rate) for seed in range(8)]
    flat = np.asarray(masks, np.float32).reshape(32, -1) - (1 - rate)  # of every key and example
    count, variance = flat.shape[1], rate * (1 - rate)
    shifts = [0, *(2**i for i in range(16)), 65, 3 * 64 + 1, 32 * 64 + 64 + 1]
    for shift in shifts:
        correlation = flat @ np.roll(flat, shift, axis=1).T / (variance * count)
        if shift == 0:
            np.fill_diagonal(correlation, 0.0)
        assert np.abs(correlation).max() < 5.5 / math.sqrt(count)


def test_the_numbers_dropped_are_spread_as_binomially_over_every_axis():
    """Their variance over rows, columns and channels is a coin's: no stripes."""
    keep = np.asarray(layers.keep_mask(jax.random.key(3), (16, 32, 32, 128), 0.1), np.float64)
    for axis in (1, 2, 3):
        sums = keep.sum(axis=axis)
        assert sums.var() == pytest.approx(0.09 * keep.shape[axis], rel=0.02)


@pytest.mark.parametrize("height", [1, 6])
def test_an_example_s_mask_depends_on_its_place_and_not_on_the_batch(height):
    keep_mask = jax.jit(layers.keep_mask, static_argnums=(1, 2))
    masks = [keep_mask(jax.random.key(0), (b, height, 3, 5), 0.3) for b in (2, 6)]
    np.testing.assert_array_equal(masks[0], masks[1][:2])
    assert not np.array_equal(masks[1][0], masks[1][1])


def test_the_upsampled_convolution_is_the_one_of_repeated_pixels_and_so_are_its_gradients():
    x, kernel, dy = normal(0, 2, 4, 6, 5), normal(1, 3, 3, 5, 7), normal(2, 2, 8, 12, 7)
    axes = ("NHWC", "HWIO", "NHWC")

    def plain(x, kernel):
        nearest = x.repeat(2, axis=1).repeat(2, axis=2)
        return jax.lax.conv_general_dilated(nearest, kernel, (1, 1), "SAME", dimension_numbers=axes)

    ours, theirs = (
        jax.tree.leaves(value_and_pullback(f, (x, kernel), dy))
        for f in (layers.upsampled_conv, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max()))


def test_attention_is_one_head_over_all_positions():
    q, k, v = (normal(i, 2, 3, 4, 5) for i in range(3))
    flat = [np.asarray(a, np.float64).reshape(2, 12, 5) for a in (q, k, v)]
    logits = flat[0] @ flat[1].swapaxes(1, 2) / math.sqrt(5)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = (weights @ flat[2]).reshape(2, 3, 4, 5)
    np.testing.assert_allclose(layers.attend(q, k, v), expected, rtol=1e-4, atol=1e-6)
