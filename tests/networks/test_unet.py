"""The network's graph, fact by fact, as appendix B and the authors' release have it."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ddpm_jax.networks import layers, unet
from ddpm_jax.networks.unet import UNet

CIFAR = {"channels": 128, "multipliers": (1, 2, 2, 2)}
LARGE = {"multipliers": (1, 1, 2, 2, 4, 4)}


def shapes(size, channels_in=3, **fields):
    network = UNet(**{"out_channels": 3, "blocks": 2, "attention": (16,), **fields})
    x, t = jnp.zeros((1, size, size, channels_in)), jnp.zeros((1,), jnp.int32)
    return jax.eval_shape(network.init, jax.random.key(0), x, t)["params"]


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "size, fields, parameters, tensors",
    [
        (32, CIFAR, 35_746_307, 328),
        (32, CIFAR | {"out_channels": 6}, 35_749_766, 328),
        (256, LARGE | {"channels": 128}, 113_673_219, 450),
        (256, LARGE | {"channels": 192}, 255_677_955, 450),
    ],
    ids=["cifar10", "learned variance", "256x256", "bedroom large"],
)
def test_parameter_counts(size, fields, parameters, tensors):
    tree = shapes(size, **fields)
    assert count(tree) == parameters
    assert len(jax.tree.leaves(tree)) == tensors


def test_parameter_counts_module_by_module():
    """The CIFAR-10 column of the release's variables."""
    tree = shapes(32, **CIFAR)
    down = {f"down_{i}": n for i, n in enumerate((870_272, 3_480_320, 3_215_104, 2_625_024))}
    up = {f"up_{i}": n for i, n in enumerate((1_789_952, 7_155_712, 6_692_608, 6_692_608))}
    rest = {"temb": 328_704, "conv_in": 3_584, "mid": 2_888_704, "norm_out": 256, "conv_out": 3_459}
    assert {name: count(module) for name, module in tree.items()} == down | up | rest


def network(**fields):
    """Small, with two levels; heads at full scale where a test has to see what is behind them."""
    small = {"out_channels": 2, "channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": ()}
    return UNet(**small | fields)


X, T = jax.random.normal(jax.random.key(1), (2, 8, 8, 2)), jnp.array([3, 500])
MODEL = network(attention=(4, 8), dropout=0.5)


@pytest.fixture(scope="module")
def params():
    """The model's, as they are initialised."""
    return jax.jit(MODEL.init)(jax.random.key(0), X, T)["params"]


@pytest.fixture(scope="module")
def loud(params):
    """With heads at full scale: the near-zero kernels would hide most of the graph."""
    return jax.tree.map(lambda p: p * 1e5 if 0 < jnp.abs(p).max() < 1e-4 else p, params)


@pytest.fixture(scope="module")
def calls(loud):
    """Every module's name, itself, its first input and its output, out of training."""
    return record_calls(MODEL, loud)


def test_output_is_near_zero_at_initialisation(params):
    out = jax.jit(MODEL.apply)({"params": params}, X, T)
    assert 0.0 < float(jnp.abs(out).max()) < 1e-3


def test_initial_kernels_have_the_release_s_limits():
    """fan_avg uniform: 0.051031 for a 3x3 convolution of 128 to 128 channels, 1e-5 of it for heads."""
    x = jnp.zeros((1, 4, 4, 128))
    for scale, limit in ((1.0, 0.051031), (unet.HEAD, 5.1031e-7)):
        layer = unet.conv(128, "conv", jnp.float32, scale)
        kernel = layer.init(jax.random.key(0), x)["params"]["kernel"]
        assert float(jnp.abs(kernel).max()) == pytest.approx(limit, rel=1e-3)
        assert float(kernel.std()) == pytest.approx(limit / math.sqrt(3), rel=1e-2)


def test_exactly_the_heads_begin_near_zero_and_all_biases_at_zero(params):
    flat = {"/".join(path): leaf for path, leaf in flatten_dict(params).items()}
    kernels = {name for name, leaf in flat.items() if name.endswith("kernel")}
    quiet = {name for name in kernels if float(jnp.abs(flat[name]).max()) < 1e-4}
    assert quiet == {name for name in kernels if name.split("/")[-2] in HEADS}
    assert all(not leaf.any() for name, leaf in flat.items() if name.endswith("bias"))
    assert all((leaf == 1).all() for name, leaf in flat.items() if name.endswith("scale"))


HEADS = ("conv2", "proj_out", "conv_out")


def test_attention_is_at_its_heights_after_every_block_and_always_in_the_middle():
    tree = shapes(32, **CIFAR)
    found = {(level, name) for level, blocks in tree.items() for name in blocks if "attn" in name}
    on_the_way = {("down_1", f"attn_{j}") for j in range(2)} | {
        ("up_1", f"attn_{j}") for j in range(3)
    }
    assert found == on_the_way | {("mid", "attn_1")}


def test_time_embedding_is_sines_then_cosines_of_frequencies_1_to_1e_4():
    embedding = unet.timestep_embedding(jnp.array([0, 1, 999]), 128)
    frequencies = 10000.0 ** -(np.arange(64) / 63)
    assert frequencies[-1] == pytest.approx(1e-4)
    angles = np.array([0, 1, 999])[:, None] * frequencies
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(embedding, expected, atol=1e-4)
    assert unet.timestep_embedding(jnp.array([0.5]), 7).shape == (1, 7)


def test_time_mlp_has_swish_between_its_layers_and_none_after():
    module = unet.TimeMLP(8, jnp.float32)
    t = jnp.array([7])
    params = module.init(jax.random.key(0), t)["params"]
    hidden = unet.timestep_embedding(t, 8) @ params["dense0"]["kernel"]
    expected = jax.nn.swish(hidden) @ params["dense1"]["kernel"]
    np.testing.assert_allclose(module.apply({"params": params}, t), expected, rtol=1e-5)


def test_downsampling_pads_bottom_and_right_only():
    """With a kernel that picks its top left tap, output (i, j) is input (2i, 2j)."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    module = unet.Downsample(jnp.float32)
    params = module.init(jax.random.key(0), x)["params"]
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)
    out = module.apply({"params": {"conv": params["conv"] | {"kernel": kernel}}}, x)
    np.testing.assert_array_equal(out[0, :, :, 0], [[0, 2], [8, 10]])


def test_upsampling_repeats_then_convolves():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    module = unet.Upsample(jnp.float32)
    params = module.init(jax.random.key(0), x)["params"]
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    out = module.apply({"params": {"conv": params["conv"] | {"kernel": kernel}}}, x)
    np.testing.assert_array_equal(
        out[0, :, :, 0], [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    )


def record_calls(model, params, train=False, **rngs):
    """Every module's name, itself, its first input and its output, in the order they finish."""
    modules = []

    def forward(params):
        arrays = []

        def interceptor(next_function, args, kwargs, context):
            out = next_function(*args, **kwargs)
            if context.method_name == "__call__":
                modules.append(("/".join(context.module.path), context.module))
                arrays.append((args[0], out))
            return out

        with nn.intercept_methods(interceptor):
            model.apply({"params": params}, X, T, train, rngs=rngs)
        return arrays

    arrays = jax.jit(forward)(params)
    return [(*module, *pair) for module, pair in zip(modules, arrays, strict=True)]


def same(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_skips_are_joined_behind_h_last_first_after_attention(calls):
    out = {name: result for name, _, _, result in calls}
    given = {name: first for name, _, first, _ in calls}
    expected = [
        ("up_1/block_0", out["mid"], out["down_1/attn_0"]),
        ("up_1/block_1", out["up_1/attn_0"], out["down_0/downsample"]),
        ("up_0/block_0", out["up_1/upsample"], out["down_0/attn_0"]),
        ("up_0/block_1", out["up_0/attn_0"], out["conv_in"]),
    ]
    for block, h, skip in expected:
        for part, made in zip(given[block], (h, skip), strict=True):
            same(part, made)


def test_a_block_is_norm_swish_conv_plus_time_norm_swish_dropout_conv(calls):
    inside = [name for name, *_ in calls if name.startswith("down_1/block_0/")]
    names = [name.split("/")[-1] for name in inside]
    order = ["norm1", "conv1", "temb_proj", "norm2", "Dropout_0", "conv2", "nin_shortcut"]
    assert names == order
    found = {name.split("/")[-1]: (first, out) for name, _, first, out in calls if name in inside}
    temb = next(out for name, _, _, out in calls if name == "temb")
    block_in = next(first for name, _, first, _ in calls if name == "down_1/block_0")
    block_out = next(out for name, _, _, out in calls if name == "down_1/block_0")
    same(found["conv1"][0], nn.swish(found["norm1"][1]))
    same(found["temb_proj"][0], nn.swish(temb))
    same(found["norm2"][0], found["conv1"][1] + found["temb_proj"][1][:, None, None, :])
    same(found["Dropout_0"][0], nn.swish(found["norm2"][1]))
    same(found["conv2"][0], found["Dropout_0"][1])
    same(found["norm1"][0], block_in[0])
    same(found["nin_shortcut"][0], block_in[0])
    same(block_out, found["nin_shortcut"][1] + found["conv2"][1])


def test_dropout_is_in_every_block_and_only_in_training(params, calls):
    training = record_calls(MODEL, params, True, dropout=jax.random.key(2))
    dropouts = [name for name, module, *_ in training if isinstance(module, layers.Dropout)]
    blocks = [name for name, module, *_ in training if isinstance(module, unet.ResnetBlock)]
    assert sorted(dropouts) == sorted(f"{name}/Dropout_0" for name in blocks)
    for name, module, first, out in training:
        if isinstance(module, layers.Dropout):
            dropped = float((np.asarray(out) == 0.0).mean())
            assert dropped == pytest.approx(0.5, abs=0.15), name
            kept = np.asarray(out) != 0.0
            np.testing.assert_allclose(
                np.asarray(out)[kept], 2 * np.asarray(first)[kept], rtol=1e-5
            )
    for _, module, first, out in calls:
        if isinstance(module, layers.Dropout):
            same(out, first)


@pytest.mark.parametrize("channels_in, height, width", [(1, 8, 8), (5, 4, 12)])
def test_any_channels_and_any_size_that_halves(channels_in, height, width):
    model = network(out_channels=channels_in, channels=6, attention=(height // 2,))
    x, t = jnp.ones((1, height, width, channels_in)), jnp.array([0.5])
    out, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), x, t)
    assert out.shape == x.shape


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="divisible by 2"):
        shapes(9, multipliers=(1, 2), channels=8)


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32(loud, calls):
    model = MODEL.clone(dtype=jnp.bfloat16)
    half = jax.eval_shape(model.init, jax.random.key(0), X, T)["params"]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half))
    out = {name: result for name, *_, result in record_calls(model, loud)}
    assert out["down_0"][0].dtype == jnp.bfloat16
    assert out["conv_out"].dtype == jnp.float32
    (exact,) = (result for name, *_, result in calls if name == "conv_out")
    assert float(jnp.abs(out["conv_out"] - exact).max()) < 0.1 * float(exact.std())


@pytest.mark.slow
def test_remat_changes_neither_parameters_nor_output_nor_gradient_nor_masks(loud):
    """At both heights, so that Down, Mid and Up are all met; with dropout, whose masks are made twice.

    Slow, for it compiles two gradients; the test below reads off what is recomputed.
    """
    again = MODEL.clone(remat=(4, 8))
    made = jax.eval_shape(again.init, jax.random.key(0), X, T)["params"]
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, loud)
    rngs = {"dropout": jax.random.key(2)}

    def loss(model):
        def of_params(params):
            return (model.apply({"params": params}, X, T, True, rngs=rngs) ** 2).mean()

        return jax.value_and_grad(of_params)

    results = [jax.tree.leaves(jax.jit(loss(model))(loud)) for model in (MODEL, again)]
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)  # some are really zero


@pytest.mark.parametrize("remat, blocks", [((), 0), ((8,), 3), ((4,), 5), ((4, 8), 8)])
def test_remat_is_of_every_block_at_its_heights(remat, blocks):
    """At 8 a block down and two up; at 4 these, and two in the middle, which has attention."""
    model = network(remat=remat)
    params = jax.eval_shape(model.init, jax.random.key(0), X, T)["params"]
    jaxpr = jax.make_jaxpr(lambda p: model.apply({"params": p}, X, T))(params)
    again = [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("checkpoint", "remat2", "remat")]
    assert len(again) == blocks + (4 in remat)
