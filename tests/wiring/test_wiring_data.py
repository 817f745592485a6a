"""Which images are for training and which are held out, in every config; and the attention that names are of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CONFIGS, load
from PIL import Image
from scipy import special
from support import loud

from ddpm_jax.config import data
from ddpm_jax.networks import unet
from ddpm_jax.weights import formats


def test_no_picture_of_a_folder_is_both_trained_on_and_held_out(tmp_path):
    for name in ("pictures", "data"):
        (tmp_path / name).mkdir()
    for i in range(41):
        gray = Image.new("L", (9, 9), 5 * i)
        gray.save(tmp_path / "pictures" / f"{i}.png")
    config = load("image_folder")
    config.data.update(path=str(tmp_path / "pictures"), data_dir=str(tmp_path / "data"))
    config.data.update(image_size=8, channels=1)
    section = data.data_source(config.data.to_dict())
    levels = []
    for split in (section.split, section.held_out):
        source = section.open(split)
        levels.append(set(source.read(np.arange(source.count))[:, 0, 0, 0].tolist()))
    trained, held_out = levels
    assert not trained & held_out
    assert trained | held_out == {5 * i for i in range(41)} and len(held_out) == 2


@pytest.mark.parametrize("name", [path.stem for path in sorted(CONFIGS.glob("*.py"))])
def test_what_is_held_out_is_another_split_than_training_s(name):
    rows = {"ablation": "eps-simple", "digits_sde": "vp", "cifar10_sde": "vp"}
    section = load(name, rows.get(name, "")).data
    slices = [section.split, section.held_out]
    if not section.held_out or not any("[" in each for each in slices):
        assert section.split != section.held_out
    else:
        assert slices == ["train[:95%]", "train[95%:]"]


@pytest.mark.parametrize("format", ["diffusers", "tf1", "pesser"])
def test_attention_is_of_what_the_formats_call_its_queries_and_keys(format):
    """In numpy, from the tensors by their published names: softmax(q k / sqrt(c)) v, a query a row."""
    channels, rng = 6, np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 3, 4, channels)), jnp.float32)
    block = unet.AttentionBlock(jnp.float32)
    like = jax.eval_shape(block.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(jnp.asarray, loud.weights(like, 1))
    found = np.asarray(block.apply({"params": params}, x))
    tensors = formats.to_tensors(format, {"mid": {"attn_1": params}})
    names = {
        "diffusers": "mid_block.attentions.0.{}",
        "tf1": "model/mid/attn_1/{}",
        "pesser": "mid.attn_1.{}",
    }
    parts = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
    parts = parts if format == "diffusers" else {"q": "q", "k": "k", "v": "v", "out": "proj_out"}
    norm = "group_norm" if format == "diffusers" else "norm"
    ends = ("/W", "/b", "/gamma", "/beta") if format == "tf1" else (".weight", ".bias") * 2

    def tensor(part, end):
        return np.asarray(tensors[names[format].format(part) + end], np.float64)

    def dense(part, values):
        kernel = tensor(part, ends[0]).reshape(channels, channels)
        kernel = kernel if format == "tf1" else kernel.T
        return values @ kernel + tensor(part, ends[1])

    groups = np.asarray(x, np.float64).reshape(2, 12, 2, 3)  # gcd(32, 6) = 2 groups
    mean = groups.mean(axis=(1, 3), keepdims=True)
    deviation = np.sqrt(groups.var(axis=(1, 3), keepdims=True) + 1e-6)
    h = ((groups - mean) / deviation).reshape(2, 12, channels)
    h = h * tensor(norm, ends[2]) + tensor(norm, ends[3])
    q, k, v = (dense(parts[name], h) for name in "qkv")
    weights = special.softmax(q @ k.swapaxes(1, 2) / channels**0.5, axis=-1)
    expected = x.reshape(2, 12, channels) + dense(parts["out"], weights @ v)
    np.testing.assert_allclose(found.reshape(2, 12, channels), expected, rtol=1e-4, atol=1e-5)
    swapped = special.softmax(k @ q.swapaxes(1, 2) / channels**0.5, axis=-1)
    assert np.abs(dense(parts["out"], (weights - swapped) @ v)).max() > 0.1
