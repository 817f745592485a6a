"""The Inception network of December 2015 in JAX: the space of FID, KID and the Inception Score.

Not Szegedy et al.'s v3 exactly but the graph that everybody has measured in since, quirks included:
1008 classes, average pools that leave the padding out, a max pool in the last block's pool branch.
Names, shapes and order of axes (NHWC, HWIO) are those of classify_image_graph_def.pb.
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

Maps = Float[Array, "b _ _ _"]  # a function may change height, width and channels
Weights = dict[str, Float[Array, "..."] | Float[np.ndarray, "..."]]
# name, maps, outputs, kernel, stride, padding -> convolved, normalised, rectified
Layer = Callable[..., Maps]

CLASSES = 1008
DIMENSIONS = 2048
SPATIAL_CHANNELS = 7  # guided-diffusion's choice for sFID: 17 x 17 x 7 numbers, about 2048
EPSILON = 1e-3
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def pooled(maps: Maps, size: int, stride: int, padding: str, start: float, join) -> Maps:
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(maps, start, join, window, strides, padding)


def max_pool(maps: Maps, stride: int = 2, padding: str = "VALID") -> Maps:
    return pooled(maps, 3, stride, padding, -jnp.inf, lax.max)


def average_pool(maps: Maps) -> Maps:
    """Over 3 x 3, at the border over those of them that there are: TensorFlow's rule."""
    there = jnp.ones((1, *maps.shape[1:3], 1), maps.dtype)
    return pooled(maps, 3, 1, "SAME", 0.0, lax.add) / pooled(there, 3, 1, "SAME", 0.0, lax.add)


def tower(layer: Layer, name: str, maps: Maps, *stages: tuple[int, ...]) -> Maps:
    """Convolutions in a row; a stage is outputs, height and width of the kernel, and maybe stride 2."""
    for number, (outputs, height, width, *stride) in enumerate(stages):
        own = f"{name}/conv_{number}" if number else f"{name}/conv"
        strided = (2, "VALID") if stride else (1, "SAME")
        maps = layer(own, maps, outputs, (height, width), *strided)
    return maps


def join(*maps: Maps) -> Maps:
    return jnp.concatenate(maps, axis=-1)


def block_35(layer: Layer, name: str, x: Maps, after_pool: int) -> Maps:
    """On 35 x 35; three of them, and they differ in the convolution after the pool."""
    return join(
        tower(layer, name, x, (64, 1, 1)),
        tower(layer, f"{name}/tower", x, (48, 1, 1), (64, 5, 5)),
        tower(layer, f"{name}/tower_1", x, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        tower(layer, f"{name}/tower_2", average_pool(x), (after_pool, 1, 1)),
    )


def to_17(layer: Layer, name: str, x: Maps) -> Maps:
    """From 35 x 35 to 17 x 17."""
    return join(
        tower(layer, name, x, (384, 3, 3, 2)),
        tower(layer, f"{name}/tower", x, (64, 1, 1), (96, 3, 3), (96, 3, 3, 2)),
        max_pool(x),
    )


def block_17(layer: Layer, name: str, x: Maps, n: int) -> Maps:
    """On 17 x 17; four of them, and they differ in the width n of the bottlenecks."""
    across, down = (n, 1, 7), (n, 7, 1)
    return join(
        tower(layer, name, x, (192, 1, 1)),
        tower(layer, f"{name}/tower", x, (n, 1, 1), across, (192, 7, 1)),
        tower(layer, f"{name}/tower_1", x, (n, 1, 1), down, across, down, (192, 1, 7)),
        tower(layer, f"{name}/tower_2", average_pool(x), (192, 1, 1)),
    )


def to_8(layer: Layer, name: str, x: Maps) -> Maps:
    """From 17 x 17 to 8 x 8."""
    factored = (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2)
    return join(
        tower(layer, f"{name}/tower", x, (192, 1, 1), (320, 3, 3, 2)),
        tower(layer, f"{name}/tower_1", x, *factored),
        max_pool(x),
    )


def block_8(layer: Layer, name: str, x: Maps, pool: Callable[[Maps], Maps]) -> Maps:
    """On 8 x 8; two of them, and they differ in the kind of pool."""

    def forked(name, y):
        return join(
            layer(f"{name}/mixed/conv", y, 384, (1, 3)),
            layer(f"{name}/mixed/conv_1", y, 384, (3, 1)),
        )

    return join(
        tower(layer, name, x, (320, 1, 1)),
        forked(f"{name}/tower", tower(layer, f"{name}/tower", x, (384, 1, 1))),
        forked(f"{name}/tower_1", tower(layer, f"{name}/tower_1", x, (448, 1, 1), (384, 3, 3))),
        tower(layer, f"{name}/tower_2", pool(x), (192, 1, 1)),
    )


def network(layer: Layer, x: Maps) -> tuple[Maps, Maps]:
    """Scaled images of 299 x 299 to the last maps, 8 x 8 x 2048, and mixed_6/conv's, 17 x 17 x 192."""
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
    places = layer("mixed_6/conv", x, 192, (1, 1))  # the block computes it too; XLA does so once
    for name, width in ("mixed_6", 160), ("mixed_7", 192):
        x = block_17(layer, name, x, width)
    x = to_8(layer, "mixed_8", x)
    x = block_8(layer, "mixed_9", x, average_pool)
    # An oversight of 2015 that every published number has in it.
    x = block_8(layer, "mixed_10", x, functools.partial(max_pool, stride=1, padding="SAME"))
    return x, places


@functools.cache
def shapes() -> dict[str, tuple[int, ...]]:
    """Every array of the network by its name in the graph of 2015."""
    found = {}

    def layer(name, maps, outputs, kernel, stride=1, padding="SAME"):
        size = (*kernel, maps.shape[-1], outputs)
        found[f"{name}/conv2d_params"] = size
        found.update({f"{name}/batchnorm/{part}": (outputs,) for part in NORM})
        return convolve(maps, jnp.zeros(size), stride, padding)

    jax.eval_shape(lambda x: network(layer, x), jnp.zeros((1, 299, 299, 3)))
    found["softmax/weights"] = (DIMENSIONS, CLASSES)
    found["softmax/biases"] = (CLASSES,)  # in the files; no score uses it
    return found


def convolve(maps: Maps, kernel: Float[Array, "kh kw c o"], stride: int, padding: str) -> Maps:
    return lax.conv_general_dilated(
        maps,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,  # a TPU's bfloat16 moves the features by half a percent
    )


def apply(weights: Weights, images: Float[Array, "b 299 299 3"]) -> dict[str, Array]:
    """Scaled images to the fields of Features: pool3, its logits without bias, and places."""

    def layer(name, maps, outputs, kernel, stride=1, padding="SAME"):
        gamma, beta, mean, variance = (weights[f"{name}/batchnorm/{part}"] for part in NORM)
        maps = convolve(maps, jnp.asarray(weights[f"{name}/conv2d_params"]), stride, padding)
        scale = gamma * lax.rsqrt(variance + EPSILON)
        return jax.nn.relu((maps - mean) * scale + beta)

    last, places = network(layer, images)
    vectors = last.mean(axis=(1, 2))
    logits = jnp.matmul(vectors, weights["softmax/weights"], precision=lax.Precision.HIGHEST)
    spatial = places[..., :SPATIAL_CHANNELS].reshape(len(places), -1)
    return {"vectors": vectors, "logits": logits, "spatial": spatial}


def digest(weights: Weights) -> str:
    """A short name for the numbers themselves, the same whatever file they came from."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(weights[name], np.float32).tobytes())
    return sha.hexdigest()[:12]


def three_channels(images: Bytes) -> UInt8[np.ndarray, "n h w 3"]:
    """Gray images as colour ones. Raises ValueError for other numbers of channels."""
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"the Inception network takes gray or RGB images; these have {channels}")
    return np.repeat(images, 3, axis=-1) if channels == 1 else images


def space(
    weights: Weights, resize: str = "ttur", batch_size: int = 64, mesh: Mesh | None = None
) -> Space:
    """The space that 'weights', as inception_weights reads them, span.

    With a mesh each batch is spread over its devices; then every process gives all the images and
    gets all the features. Raises ValueError for an unknown resize rule, or a batch that the devices
    cannot share; 'features' raises it for images that are neither gray nor RGB.
    """
    if resize not in resizing.RULES:
        raise ValueError(
            f"there is no resize rule {resize!r}; there is {', '.join(resizing.RULES)}"
        )
    meshes.check_batch(mesh or meshes.mesh(1), batch_size, "the Inception batch size")
    place = meshes.replicated_sharding(mesh) if mesh else None
    placed = jax.device_put({name: np.asarray(weights[name]) for name in shapes()}, place)
    run = jax.jit(lambda weights, images: apply(weights, resizing.RULES[resize](images)))

    def batch(images: Bytes) -> dict[str, np.ndarray]:
        missing = batch_size - len(images)
        images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)), mode="edge")
        given = meshes.put(mesh, images[meshes.local_rows(batch_size)]) if mesh else images
        found = meshes.fetch(run(placed, given))
        return {name: rows[: batch_size - missing] for name, rows in found.items()}

    def features(images: Bytes) -> Features:
        images = three_channels(images)
        starts = range(0, len(images), batch_size)
        found = [batch(images[first : first + batch_size]) for first in starts]
        return Features(
            **{name: np.concatenate([part[name] for part in found]) for name in found[0]}
        )

    settings = {"weights": digest(weights), "resize": resize}
    return Space("inception", settings, features)
