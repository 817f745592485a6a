"""A trained model as the codec uses it: x_0-hat of one image at a time, and a hash of eight bytes as its name.

There are two profiles. "portable" is float64, whose drift between machines is far below the grid that the
codec rounds to. "local" is float32: faster, but only the machine that wrote a file can decode it.
"""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.experimental
import jax.numpy as jnp
import jaxlib
import numpy as np
from jaxtyping import Float64

from ddpm_jax import parameterization
from ddpm_jax.codec import calibration
from ddpm_jax.codec.calibration import Calibration
from ddpm_jax.run import model as models
from ddpm_jax.run.model import Model
from ddpm_jax.runtime import digest

Image = Float64[np.ndarray, "h w c"]
Predict = Callable[[Image, int], Image]  # x_t and t to x_0-hat, clipped
PORTABLE, LOCAL = "portable", "local"
PROFILES = (PORTABLE, LOCAL)


class Codec(NamedTuple):
    """Everything that compress and decompress need. 'environment' is b"" in the portable profile.

    'signal' is the scale of x_0 in x_t, by t; the pixels decoded from a file do not depend on it.
    """

    shape: tuple[int, int, int]
    levels: int
    calibration: Calibration
    model: bytes
    predict: Predict
    signal: Float64[np.ndarray, " n"]
    environment: bytes = b""


def x64(on: bool = True) -> AbstractContextManager:
    """Turns float64 on or off in a block; the function moved to 'jax' in version 0.8."""
    module: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
    return module.enable_x64(on)


def check(model: Model) -> None:
    """Raises ValueError for a network that the codec does not support."""
    if model.parameterization is parameterization.x_prev:
        raise ValueError(
            "diffusion.output=x_prev predicts the mean of a step from t to t - 1 only, but the codec"
            " takes larger steps; it works with eps and x_0"
        )
    if model.network.classes:
        raise ValueError(
            f"model.classes is {model.network.classes}: the network needs a label for every image, but"
            " the codec stores none; it works with networks that have model.classes=0"
        )


def codec(
    model: Model,
    config: Mapping[str, Any],
    params: Any,
    plan: Calibration,
    profile: str = PORTABLE,
) -> Codec:
    """Builds the codec of a run's model, from its config's sections, averaged weights and calibration."""
    check(model)
    params = jax.tree.map(np.asarray, jax.device_get(params))
    float64 = profile == PORTABLE
    return Codec(
        shape=model.shape,
        levels=model.levels,
        calibration=plan,
        model=model_hash(model, config, params, plan),
        predict=predictor(model, params, float64),
        signal=np.sqrt(model.sched.alpha_bar),
        environment=b"" if float64 else environment_hash(),
    )


def model_hash(model: Model, config: Mapping[str, Any], params: Any, plan: Calibration) -> bytes:
    """Returns the first eight bytes of a SHA-256 of everything that determines what a file decodes to."""
    network = {
        name: value
        for name, value in config["model"].items()
        # Format 1 had only one network, without a name.
        if name not in ("dtype", "remat", "dropout") and (name, value) != ("name", "unet")
    }
    chain = {name: config["diffusion"][name] for name in ("schedule", "output")}
    facts = [1, network, chain, list(model.shape), model.levels, calibration.to_json(plan)]
    hasher = hashlib.sha256(calibration.canonical_json(facts))
    for path, leaf in sorted(digest.leaves_by_path(params).items()):
        hasher.update(calibration.canonical_json([path, str(leaf.dtype), list(leaf.shape)]))
        hasher.update(np.ascontiguousarray(leaf, leaf.dtype.newbyteorder("<")).tobytes())
    return hasher.digest()[:8]


def predictor(model: Model, params: Any, float64: bool) -> Predict:
    """Compiles x_0-hat for one image at a time, so that sums are ordered alike whatever the number of images."""
    dtype = jnp.float64 if float64 else jnp.float32
    network = model.network.clone(dtype=dtype, remat=())

    def x_0(params, x_t, t):
        return models.denoiser(model._replace(network=network), params)(x_t, t).x_0

    device = jax.devices()[0]
    if float64 and jax.default_backend() == "tpu":
        device = jax.devices("cpu")[0]  # a TPU has no float64, but its host does
    with x64(float64), jax.default_matmul_precision("highest"):
        cast = jax.device_put(jax.tree.map(lambda leaf: leaf.astype(dtype), params), device)
        compiled = jax.jit(x_0)

    def predict(x_t: Image, t: int) -> Image:
        with x64(float64), jax.default_matmul_precision("highest"):
            x = jax.device_put(x_t[None].astype(dtype), device)
            return np.asarray(compiled(cast, x, np.array([t], np.int32))[0], np.float64)

    return predict


def environment_hash() -> bytes:
    """Returns four bytes of a hash of what the last digits of float32 depend on."""
    device = jax.devices()[0]
    facts = [device.platform, device.device_kind, jax.__version__, jaxlib.__version__]  # pyright: ignore[reportPrivateImportUsage]
    facts += [platform.machine(), os.environ.get("XLA_FLAGS", ""), str(os.cpu_count())]
    return hashlib.sha256(calibration.canonical_json(facts)).digest()[:4]
