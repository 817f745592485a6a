"""The Inception network of 2015, and the files that its weights come in."""

import contextlib
import io
import os
import struct
import subprocess
import sys
import tarfile

import jax
import numpy as np
import pytest
from support import peers

from ddpm_jax.datasets import source
from ddpm_jax.distributed import mesh
from ddpm_jax.metrics.inception import network as inception_network
from ddpm_jax.metrics.inception import resize
from ddpm_jax.metrics.inception import weights as inception_weights

PREFIX = "ddpm_jax.metrics.inception.weights"


@pytest.fixture(scope="session")
def weights():
    """Random, and no batch norm is an identity, so that every wrong wire shows."""
    rng = np.random.RandomState(0)  # numpy never changes its stream: numbers below were recorded

    def array(name, shape):
        if name.endswith(("gamma", "moving_variance")):
            return rng.uniform(0.5, 1.5, shape)
        fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 100
        return rng.normal(size=shape) * np.sqrt(2.0 / fan_in)

    return {
        name: array(name, s).astype(np.float32) for name, s in inception_network.shapes().items()
    }


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], strict=True, err_msg=name)


# The network


def test_the_network_has_the_graphs_size():
    """As counted in torch-fidelity's module: 23,850,960 parameters, and the statistics of the norms."""
    shapes = inception_network.shapes()
    learned = [name for name in shapes if "moving" not in name]
    assert len(shapes) == 94 * 5 + 2
    assert sum(int(np.prod(shapes[name])) for name in learned) == 23_850_960
    assert shapes["mixed_10/tower_1/mixed/conv_1/conv2d_params"] == (3, 1, 384, 384)


def test_average_pools_leave_the_padding_out():
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 2)).astype(np.float32)
    found = np.asarray(inception_network.average_pool(jax.numpy.asarray(x)))
    np.testing.assert_allclose(found[0, 0, 0], x[0, :2, :2].mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(found[0, 3, 2], x[0, 2:, 1:4].mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(found[0, 2, 2], x[0, 1:4, 1:4].mean((0, 1)), rtol=1e-5)


@pytest.fixture(scope="session")
def spread(weights):
    return inception_network.space(weights, batch_size=2, mesh=mesh.mesh(2))


def test_batches_devices_and_padding_change_no_feature(weights, spread):
    images = pictures(3, 8, 8, 1)
    found = spread.features(images)
    assert found.vectors.shape == (3, 2048) and found.logits.shape == (3, 1008)
    assert found.spatial.shape == (3, 17 * 17 * 7)
    assert np.isfinite(found.vectors).all() and found.vectors.std(0).max() > 0
    colour = np.repeat(images[2:], 3, axis=-1)
    alone = inception_network.space(weights, batch_size=1).features(colour)
    for three, one in zip(found, alone, strict=True):
        np.testing.assert_allclose(three[2:], one, rtol=1e-4, atol=1e-5 * np.abs(one).max())
    np.testing.assert_allclose(  # no bias
        found.logits, found.vectors @ weights["softmax/weights"], rtol=1e-3, atol=1e-4
    )


def test_features_are_those_that_torch_fidelity_had_with_these_weights(spread):
    """Recorded from torch-fidelity 0.4.0; the slow test below asks it again, on photographs."""
    image = (np.arange(192) * 37 % 256).astype(np.uint8).reshape(1, 8, 8, 3)
    found = spread.features(image)
    recorded = {
        "vectors": (2.631874, [6.856471, 1.912652, 0.785007, 0.0]),
        "logits": (-0.320675, [8.833033, -4.162894, 1.223766, -5.257703]),
        "spatial": (0.467440, [0.0, 0.466777, 0.256226, 0.395054]),
    }
    for name, (mean, first) in recorded.items():
        values = getattr(found, name)[0]
        np.testing.assert_allclose(values[:4], first, atol=2e-4, err_msg=name)
        np.testing.assert_allclose(values.mean(), mean, atol=2e-5, err_msg=name)


def test_a_space_says_what_decides_its_vectors(weights, spread):
    assert spread.name == "inception" and spread.settings["resize"] == "ttur"
    other = weights | {"conv/batchnorm/beta": weights["conv/batchnorm/beta"] + 1e-3}
    digests = [
        inception_network.digest(w) for w in (weights, dict(reversed(weights.items())), other)
    ]
    assert digests[0] == digests[1] == spread.settings["weights"] != digests[2]


def test_what_the_network_cannot_take_is_refused(weights, spread):
    with pytest.raises(ValueError, match="gray or RGB images; these have 4"):
        spread.features(pictures(2, 8, 8, 4))
    with pytest.raises(
        ValueError, match="unknown resize rule 'bicubic'; the rules are ttur, pytorch"
    ):
        inception_network.space(weights, resize="bicubic")
    with pytest.raises(ValueError, match="2 devices cannot share evenly"):
        inception_network.space(weights, batch_size=3, mesh=mesh.mesh(2))


# Resizing


@pytest.mark.parametrize("rule", ["ttur", "pytorch"])
@pytest.mark.parametrize("size", [(8, 8), (32, 20), (320, 299)])
def test_resizing_interpolates_between_the_four_pixels_around(rule, size):
    images = pictures(1, *size, 3)
    found = np.asarray(resize.RULES[rule](jax.numpy.asarray(images)))
    offset, (below, above) = (0.5, (0, 255)) if rule == "pytorch" else (0.0, (0, 256))
    rng = np.random.default_rng(1)
    for row, column in [(0, 0), (298, 298), *rng.integers(0, 299, (50, 2))]:
        y, x = ((i + offset) * n / 299 - offset for i, n in zip((row, column), size, strict=True))
        y, x = max(y, 0.0), max(x, 0.0)
        near = [min(int(y) + i, size[0] - 1) for i in (0, 1)]
        beside = [min(int(x) + i, size[1] - 1) for i in (0, 1)]
        square = images[0][np.ix_(near, beside)].astype(np.float64)
        down, right = np.array([1 - y % 1, y % 1]), np.array([1 - x % 1, x % 1])
        value = np.einsum("i,j,ijc->c", down, right, square)
        expected = 2 * (value - below) / (above - below) - 1
        np.testing.assert_allclose(
            found[0, row, column],
            expected,
            atol=1e-4,  # a place has 24 bits
        )


def test_an_image_of_the_networks_size_stays_as_it_is():
    images = pictures(1, 299, 299, 3)
    found = resize.ttur(jax.numpy.asarray(images))
    np.testing.assert_array_equal(found, (images.astype(np.float32) - 128) / 128)


# The files of others


def varint(value):
    more = value >> 7
    return bytes([value & 127 | 128]) + varint(more) if more else bytes([value])


def field(number, value):
    """One of a protobuf message: an int, a float32's four bytes, or anything with a length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(array, form="content"):
    dims = b"".join(field(2, field(1, size)) for size in array.shape)
    values = array.ravel()
    if form == "content":
        numbers = field(4, values.astype("<f4").tobytes())
    elif form == "packed":
        numbers = field(5, values.astype("<f4").tobytes())
    else:
        numbers = b"".join(
            field(5, float(value)) for value in values[: 1 if form == "one" else None]
        )
    return field(1, 1) + field(2, dims) + numbers


def node(name, op="Const", value=None):
    attributes = [field(1, b"dtype") + field(2, field(6, 1))]
    if value is not None:
        attributes.append(field(1, b"value") + field(2, field(8, value)))
    entries = b"".join(field(5, entry) for entry in attributes)
    return field(1, field(1, name.encode()) + field(2, op.encode()) + field(3, b"x") + entries)


def graph(arrays):
    """A GraphDef with every form of a constant, and nodes that do not belong to the network."""
    forms = {"conv/batchnorm/beta": "packed", "conv/batchnorm/gamma": "unpacked"}
    size = field(1, 3) + field(2, field(2, field(1, 2))) + field(4, struct.pack("<2i", 299, 299))
    nodes = [node("ExpandDims", "ExpandDims"), node("ResizeBilinear/size", value=size)]
    nodes += [node("Sub/y", value=tensor(np.array(128.0), "one"))]
    nodes += [node(n, value=tensor(a, forms.get(n, "content"))) for n, a in arrays.items()]
    nodes += [node("conv/Conv2D", "Conv2D")]
    return b"".join(nodes) + field(4, field(1, 8))  # versions


@pytest.fixture(scope="session")
def folder(tmp_path_factory, weights):
    """The weights as a GraphDef, bare and packed, and as ours."""
    folder = tmp_path_factory.mktemp("inception")
    (folder / "classify_image_graph_def.pb").write_bytes(graph(weights))
    with tarfile.open(folder / "inception.tgz", "w:gz", compresslevel=0) as tar:
        tar.add(folder / "classify_image_graph_def.pb", "classify_image_graph_def.pb")
    inception_weights.convert(folder / "classify_image_graph_def.pb", folder / "own.npz")
    return folder


@pytest.mark.parametrize("name", ["classify_image_graph_def.pb", "inception.tgz", "own.npz"])
def test_every_form_holds_the_same_weights(folder, weights, name):
    same(inception_weights.read(folder / name), weights)


def test_equal_numbers_may_be_written_once():
    content = node("x", value=tensor(np.full((2, 3), 7.0), "one"))
    found = inception_weights.graph_def.constants(content)["x"]
    np.testing.assert_array_equal(found, np.full((2, 3), 7.0))


def test_the_names_in_torch_are_those_that_peers_use():
    """Some of those that pytorch-fid's and torch-fidelity's state_dict have, one of each kind."""
    names = {
        "conv_3/conv2d_params": "Conv2d_3b_1x1.conv.weight",
        "mixed/tower/conv_1/batchnorm/beta": "Mixed_5b.branch5x5_2.bn.bias",
        "mixed_2/tower_2/conv/batchnorm/gamma": "Mixed_5d.branch_pool.bn.weight",
        "mixed_3/conv/conv2d_params": "Mixed_6a.branch3x3.conv.weight",
        "mixed_3/tower/conv_2/conv2d_params": "Mixed_6a.branch3x3dbl_3.conv.weight",
        "mixed_4/tower_1/conv_2/batchnorm/moving_mean": "Mixed_6b.branch7x7dbl_3.bn.running_mean",
        "mixed_8/tower_1/conv_3/conv2d_params": "Mixed_7a.branch7x7x3_4.conv.weight",
        "mixed_9/tower/mixed/conv/conv2d_params": "Mixed_7b.branch3x3_2a.conv.weight",
        "mixed_10/tower_1/mixed/conv_1/batchnorm/moving_variance": (
            "Mixed_7c.branch3x3dbl_3b.bn.running_var"
        ),
        "softmax/weights": "fc.weight",
        "softmax/biases": "fc.bias",
    }
    assert {name: inception_weights.torch_name(name) for name in names} == names
    shapes = inception_network.shapes()
    assert len({inception_weights.torch_name(name) for name in shapes}) == len(shapes)


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


FILES = {
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
    "page": (b"<!DOCTYPE html>\n<html>404</html>", "is a web page"),
    "empty": (b"", "is empty"),
    "text": (b"these are no weights", "is not a complete GraphDef"),
    "statistics": (npz(mu=np.zeros(3)), "472 of its 472 arrays are missing"),
    "another graph": (graph({"a": np.zeros(3)}), "the first is conv/conv2d_params"),
    "pickled": (npz(mu=np.array([{}], object)), "does not hold plain arrays"),
    "cut npz": (npz(mu=np.zeros(3))[:-9], "is truncated or damaged"),
    "cut gzip": (b"\x1f\x8b\x08\x00\x00", "is truncated or damaged"),
    "torch": (
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80",
        "truncated|with torch, which is not",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_weights_say_what_they_are_and_what_to_get(tmp_path, name):
    content, words = FILES[name]
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        inception_weights.read(tmp_path / "weights")
    assert "inception-2015-12-05.tgz" in str(caught.value)
    assert str(tmp_path / "weights") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["classify_image_graph_def.pb", "inception.tgz", "own.npz"])
def test_a_file_cut_short_is_refused(folder, tmp_path, name):
    content = (folder / name).read_bytes()
    for length in (300, len(content) // 2, len(content) - 30_000):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"truncated|cut short|are missing"):
            inception_weights.read(tmp_path / name)


def test_a_damaged_graph_never_raises_anything_else():
    content = bytearray(graph({"conv/batchnorm/beta": np.ones(32), "Mul/y": np.ones((2, 3))}))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[at] = rng.integers(0, 256)
        with contextlib.suppress(ValueError):
            inception_weights.graph_def.constants(bytes(damaged))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (np.zeros((1000,)), r"its softmax/biases is float64 \(1000,\), not float32 \(1008,\)"),
        (np.zeros(1008, np.int32), "its softmax/biases is int32"),
        (np.full(1008, np.nan), "its softmax/biases is not finite"),
    ],
)
def test_another_network_is_refused(tmp_path, weights, change, words):
    np.savez(tmp_path / "other.npz", **weights | {"softmax/biases": change})
    with pytest.raises(ValueError, match=words):
        inception_weights.read(tmp_path / "other.npz")


def test_without_torch_its_files_say_what_else_to_take(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "pt.pth").write_bytes(b"\x80\x02\x8a\n")
    with pytest.raises(ValueError, match="'pip install torch', convert it to .npz"):
        inception_weights.read(tmp_path / "pt.pth")


def test_the_command_converts_and_else_ends_in_one_line(folder, tmp_path):
    def command(*arguments):
        call = [sys.executable, "-m", PREFIX, *map(str, arguments)]
        return subprocess.run(call, capture_output=True, text=True)

    done = command(folder / "inception.tgz", tmp_path / "out.npz")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("\n") == 1
    same(*map(inception_weights.read, (tmp_path / "out.npz", folder / "own.npz")))
    missing = command(tmp_path / "none.pth", tmp_path / "new.npz")
    assert missing.returncode == 2 and "does not exist; get" in missing.stderr
    assert missing.stderr.count("\n") == 1 and not (tmp_path / "new.npz").exists()


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b"], ["a", "b", "c"]])
def test_wrong_usage_is_two_and_help_none(arguments, capsys):
    assert inception_weights.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert inception_weights.main(["--help"]) == 0
    assert "SOURCE" in capsys.readouterr().out


# torch-fidelity


@pytest.fixture(scope="session")
def peer(tmp_path_factory):
    """torch-fidelity's network with random weights, and the file that they were saved in."""
    module = peers.torch_fidelity("feature_extractor_inceptionv3")
    import torch

    network, layers = module.FeatureExtractorInceptionV3, ["2048", "logits_unbiased"]
    path = tmp_path_factory.mktemp("peer") / "pt_inception.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(network, "load_state_dict", lambda *_: None)
        tensors = network("peer", layers).state_dict()
    torch.manual_seed(0)
    for name, values in tensors.items():
        if name.endswith(("bn.weight", "running_var")):
            values.uniform_(0.5, 1.5)
        elif values.is_floating_point():
            fan_in = values[0].numel() if values.ndim > 1 else 100
            values.normal_(0.0, (2.0 / fan_in) ** 0.5)
    torch.save(tensors, path)
    return network("peer", layers, feature_extractor_weights_path=str(path)), path


@pytest.fixture(scope="session")
def cifar():
    folder = os.environ.get("DDPM_JAX_TFDS")
    if not folder:
        pytest.skip("DDPM_JAX_TFDS, a folder with TFDS's cifar10, is not set")
    return source.open_data_set("cifar10", folder, "test", 32).read(np.arange(4))


def as_torch(images):
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False], ids=["newer", "as in 2019"])
def test_a_pth_holds_the_same_weights_and_cut_short_or_another_is_refused(
    weights, tmp_path, zipped
):
    """By torch's own file format."""
    torch = pytest.importorskip("torch")
    tensors = {
        inception_weights.torch_name(name): torch.from_numpy(
            np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)
        )
        for name, array in weights.items()
    }
    path = tmp_path / "pt_inception.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    same(inception_weights.read(path), weights)
    content = path.read_bytes()
    for length in (300, len(content) // 2, len(content) - 30_000):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="truncated"):
            inception_weights.read(path)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(ValueError, match="is a TorchScript program"):
        inception_weights.read(path)
    torch.save({"conv": torch.zeros(2), "of": [1]}, path)
    with pytest.raises(ValueError, match="not a dictionary of tensors"):
        inception_weights.read(path)


@pytest.mark.slow
def test_features_are_torch_fidelitys(peer, cifar, tmp_path):
    """Against torch-fidelity's network."""
    import torch

    network, path = peer
    places = []
    network.Mixed_6d.branch1x1.register_forward_hook(lambda *call: places.append(call[2]))
    with torch.no_grad():
        vectors, logits = (values.numpy() for values in network(as_torch(cifar)))
    spatial = places[0].numpy().transpose(0, 2, 3, 1)[..., :7].reshape(len(cifar), -1)
    inception_weights.convert(path, tmp_path / "own.npz")
    read = inception_weights.read(tmp_path / "own.npz")
    same(read, inception_weights.read(path))
    found = inception_network.space(read, batch_size=4).features(cifar)
    for name, theirs in ("vectors", vectors), ("logits", logits), ("spatial", spatial):
        error = np.abs(getattr(found, name) - theirs).max() / np.abs(theirs).max()
        print(f"{name}: max|diff|/max = {error:.1e}")
        assert error < 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (256, 256), (320, 211), (299, 299)])
def test_resizing_is_theirs_to_the_bit(size):
    """Against torch-fidelity's own."""
    theirs = peers.torch_fidelity("interpolate_compat_tensorflow")
    import torch

    images = pictures(2, *size, 3)
    tensor = as_torch(images).float()
    resized = theirs.interpolate_bilinear_2d_like_tensorflow1x(tensor, (299, 299), None, False)
    found = resize.ttur(jax.numpy.asarray(images))
    np.testing.assert_array_equal(found, ((resized - 128) / 128).numpy().transpose(0, 2, 3, 1))
    options = {"mode": "bilinear", "align_corners": False}
    resized = 2 * torch.nn.functional.interpolate(tensor / 255, (299, 299), **options) - 1
    found = resize.pytorch(jax.numpy.asarray(images))
    np.testing.assert_allclose(
        found, resized.numpy().transpose(0, 2, 3, 1), atol=5e-5
    )  # torch fuses
