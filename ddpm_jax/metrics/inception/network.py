"""The Inception network of December 2015 in JAX: the features of FID, KID and the Inception Score.

Not exactly Szegedy et al.'s v3, but the graph that published numbers use, quirks included: 1008
classes, average pools that exclude the padding, a max pool in the last block's pool branch. Names,
shapes and axis order (NHWC, HWIO) are those of classify_image_graph_def.pb.
"""

import functools
import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from ddpm_jax.distributed import mesh as meshes
from ddpm_jax.metrics.features import Bytes, Features, Space
from ddpm_jax.metrics.inception import resize as resizing

Maps = Float[Array, "b _ _ _"]  # height, width and channels differ between layers
Weights = dict[str, Float[Array, "..."] | Float[np.ndarray, "..."]]
# (name, maps, outputs, kernel, stride, padding) -> maps: convolution, batch norm, ReLU
Layer = Callable[..., Maps]

CLASSES = 1008
DIMENSIONS = 2048
SPATIAL_CHANNELS = 7  # guided-diffusion's choice for sFID: 17 x 17 x 7 = 2023 numbers, about 2048
EPSILON = 1e-3
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def pool(maps: Maps, size: int, stride: int, padding: str, start: float, reduce) -> Maps:
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(maps, start, reduce, window, strides, padding)


def max_pool(maps: Maps, stride: int = 2, padding: str = "VALID") -> Maps:
    return pool(maps, 3, stride, padding, -jnp.inf, lax.max)


def average_pool(maps: Maps) -> Maps:
    """Averages over 3 x 3, excluding the padding at the border: TensorFlow's rule."""
    ones = jnp.ones((1, *maps.shape[1:3], 1), maps.dtype)
    return pool(maps, 3, 1, "SAME", 0.0, lax.add) / pool(ones, 3, 1, "SAME", 0.0, lax.add)


def tower(layer: Layer, name: str, maps: Maps, *stages: tuple[int, ...]) -> Maps:
    """Convolutions in sequence; a stage is (outputs, kernel height, kernel width[, stride 2])."""
    for number, (outputs, height, width, *stride) in enumerate(stages):
        layer_name = f"{name}/conv_{number}" if number else f"{name}/conv"
        stride_and_padding = (2, "VALID") if stride else (1, "SAME")
        maps = layer(layer_name, maps, outputs, (height, width), *stride_and_padding)
    return maps


def join(*maps: Maps) -> Maps:
    return jnp.concatenate(maps, axis=-1)


def block_35(layer: Layer, name: str, x: Maps, after_pool: int) -> Maps:
    """One of three blocks at 35 x 35; they differ in the convolution after the pool."""
    return join(
        tower(layer, name, x, (64, 1, 1)),
        tower(layer, f"{name}/tower", x, (48, 1, 1), (64, 5, 5)),
        tower(layer, f"{name}/tower_1", x, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        tower(layer, f"{name}/tower_2", average_pool(x), (after_pool, 1, 1)),
    )


def to_17(layer: Layer, name: str, x: Maps) -> Maps:
    """Reduces 35 x 35 to 17 x 17."""
    return join(
        tower(layer, name, x, (384, 3, 3, 2)),
        tower(layer, f"{name}/tower", x, (64, 1, 1), (96, 3, 3), (96, 3, 3, 2)),
        max_pool(x),
    )


def block_17(layer: Layer, name: str, x: Maps, n: int) -> Maps:
    """One of four blocks at 17 x 17; they differ in the width n of the bottlenecks."""
    across, down = (n, 1, 7), (n, 7, 1)
    return join(
        tower(layer, name, x, (192, 1, 1)),
        tower(layer, f"{name}/tower", x, (n, 1, 1), across, (192, 7, 1)),
        tower(layer, f"{name}/tower_1", x, (n, 1, 1), down, across, down, (192, 1, 7)),
        tower(layer, f"{name}/tower_2", average_pool(x), (192, 1, 1)),
    )


def to_8(layer: Layer, name: str, x: Maps) -> Maps:
    """Reduces 17 x 17 to 8 x 8."""
    factored = (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2)
    return join(
        tower(layer, f"{name}/tower", x, (192, 1, 1), (320, 3, 3, 2)),
        tower(layer, f"{name}/tower_1", x, *factored),
        max_pool(x),
    )


def block_8(layer: Layer, name: str, x: Maps, pool: Callable[[Maps], Maps]) -> Maps:
    """One of two blocks at 8 x 8; they differ in the kind of pool."""

    def fork(name, y):
        return join(
            layer(f"{name}/mixed/conv", y, 384, (1, 3)),
            layer(f"{name}/mixed/conv_1", y, 384, (3, 1)),
        )

    return join(
        tower(layer, name, x, (320, 1, 1)),
        fork(f"{name}/tower", tower(layer, f"{name}/tower", x, (384, 1, 1))),
        fork(f"{name}/tower_1", tower(layer, f"{name}/tower_1", x, (448, 1, 1), (384, 3, 3))),
        tower(layer, f"{name}/tower_2", pool(x), (192, 1, 1)),
    )


def network(layer: Layer, x: Maps) -> tuple[Maps, Maps]:
    """Maps scaled 299 x 299 images to the last maps, 8 x 8 x 2048, and mixed_6/conv, 17 x 17 x 192."""
    x = layer("conv", x, 32, (3, 3), 2, "VALID")
    x = layer("conv_1", x, 32, (3, 3), 1, "VALID")
    x = max_pool(layer("conv_2", x, 64, (3, 3)))
    x = layer("conv_3", x, 80, (1, 1))
    x = max_pool(layer("conv_4", x, 192, (3, 3), 1, "VALID"))
    for name, after_pool in ("mixed", 32), ("mixed_1", 64), ("mixed_2", 64):
        x = block_35(layer, name, x, after_pool)
    x = to_17(layer, "mixed_3", x)
    for name, width in ("mixed_4", 128), ("mixed_5", 160):
        x = block_17(layer, name, x, width)
    spatial = layer("mixed_6/conv", x, 192, (1, 1))  # in the block too; XLA computes it once
    for name, width in ("mixed_6", 160), ("mixed_7", 192):
        x = block_17(layer, name, x, width)
    x = to_8(layer, "mixed_8", x)
    x = block_8(layer, "mixed_9", x, average_pool)
    # An oversight of 2015 that all published numbers share.
    x = block_8(layer, "mixed_10", x, functools.partial(max_pool, stride=1, padding="SAME"))
    return x, spatial


@functools.cache
def shapes() -> dict[str, tuple[int, ...]]:
    """The shape of every array of the network, by its name in the graph of 2015."""
    sizes = {}

    def layer(name, maps, outputs, kernel, stride=1, padding="SAME"):
        size = (*kernel, maps.shape[-1], outputs)
        sizes[f"{name}/conv2d_params"] = size
        sizes.update({f"{name}/batchnorm/{part}": (outputs,) for part in NORM})
        return convolve(maps, jnp.zeros(size), stride, padding)

    jax.eval_shape(lambda x: network(layer, x), jnp.zeros((1, 299, 299, 3)))
    sizes["softmax/weights"] = (DIMENSIONS, CLASSES)
    sizes["softmax/biases"] = (CLASSES,)  # in the files; no metric uses it
    return sizes


def convolve(maps: Maps, kernel: Float[Array, "kh kw c o"], stride: int, padding: str) -> Maps:
    return lax.conv_general_dilated(
        maps,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,  # in a TPU's bfloat16 the features change by half a percent
    )


def apply(weights: Weights, images: Float[Array, "b 299 299 3"]) -> dict[str, Array]:
    """Maps scaled images to the fields of Features: pool3, its logits without bias, mixed_6/conv."""

    def layer(name, maps, outputs, kernel, stride=1, padding="SAME"):
        gamma, beta, mean, variance = (weights[f"{name}/batchnorm/{part}"] for part in NORM)
        maps = convolve(maps, jnp.asarray(weights[f"{name}/conv2d_params"]), stride, padding)
        scale = gamma * lax.rsqrt(variance + EPSILON)
        return jax.nn.relu((maps - mean) * scale + beta)

    last, spatial = network(layer, images)
    vectors = last.mean(axis=(1, 2))
    logits = jnp.matmul(vectors, weights["softmax/weights"], precision=lax.Precision.HIGHEST)
    spatial = spatial[..., :SPATIAL_CHANNELS].reshape(len(spatial), -1)
    return {"vectors": vectors, "logits": logits, "spatial": spatial}


def digest(weights: Weights) -> str:
    """A short hash of the weights' values, the same for every file format."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(weights[name], np.float32).tobytes())
    return sha.hexdigest()[:12]


def three_channels(images: Bytes) -> UInt8[np.ndarray, "n h w 3"]:
    """Repeats the channel of gray images. Raises ValueError unless there are 1 or 3 channels."""
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise ValueError(
            f"the Inception network takes gray or RGB images; these have {channels} channels"
        )
    return np.repeat(images, 3, axis=-1) if channels == 1 else images


def space(
    weights: Weights, resize: str = "ttur", batch_size: int = 64, mesh: Mesh | None = None
) -> Space:
    """The feature space of weights that inception.weights has read.

    With a mesh, each batch is spread over its devices, and every process passes all the images and
    receives all the features. Raises ValueError for an unknown resize rule, or a batch that the
    devices cannot share; 'features' raises it for images that are neither gray nor RGB.
    """
    if resize not in resizing.RULES:
        raise ValueError(
            f"unknown resize rule {resize!r}; the rules are {', '.join(resizing.RULES)}"
        )
    meshes.check_batch(mesh or meshes.mesh(1), batch_size, "the Inception batch size")
    sharding = meshes.replicated_sharding(mesh) if mesh else None
    on_device = jax.device_put({name: np.asarray(weights[name]) for name in shapes()}, sharding)
    run = jax.jit(lambda weights, images: apply(weights, resizing.RULES[resize](images)))

    def batch(images: Bytes) -> dict[str, np.ndarray]:
        missing = batch_size - len(images)
        images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)), mode="edge")
        local = meshes.put(mesh, images[meshes.local_rows(batch_size)]) if mesh else images
        outputs = meshes.fetch(run(on_device, local))
        return {name: rows[: batch_size - missing] for name, rows in outputs.items()}

    def features(images: Bytes) -> Features:
        images = three_channels(images)
        starts = range(0, len(images), batch_size)
        parts = [batch(images[first : first + batch_size]) for first in starts]
        return Features(
            **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        )

    settings = {"weights": digest(weights), "resize": resize}
    return Space("inception", settings, features)
