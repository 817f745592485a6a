"""A trained model as the codec sees it: x_0-hat of one image in float64, and eight bytes that name it all.

Two profiles. "portable" is float64, whose drift between machines is far below the grid that the codec
rounds to. "local" is float32, faster, and for the machine that wrote the file only.
"""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
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
    """All that compress and decompress need. 'environment' is b"" in the portable profile.

    'signal' is the scale of x_0 in x_t, by t; nothing that is decoded depends on it.
    """

    shape: tuple[int, int, int]
    levels: int
    calibration: Calibration
    model: bytes
    predict: Predict
    signal: Float64[np.ndarray, " n"]
    environment: bytes = b""


def x64(on: bool = True) -> AbstractContextManager:
    """Float64 on or off within; the name that it has since jax 0.8, or the one before."""
    home = jax if hasattr(jax, "enable_x64") else jax.experimental
    return home.enable_x64(on)


def check(model: Model) -> None:
    """Raises ValueError for a network that the codec cannot drive."""
    if model.parameterization is parameterization.x_prev:
        raise ValueError(
            "the codec takes larger steps than one, and diffusion.output=x_prev is a mean for steps"
            " of one only; it works with eps and x_0"
        )
    if model.network.classes:
        raise ValueError(
            f"model.classes is {model.network.classes}: the network asks for a label of every image, and"
            " the codec has no place for one; it works with networks of model.classes=0"
        )


def codec(
    model: Model,
    config: Mapping[str, Any],
    params: Any,
    calibrated: Calibration,
    profile: str = PORTABLE,
) -> Codec:
    """Of a run's model, its config's sections, its averaged weights and its calibration."""
    check(model)
    params = jax.tree.map(np.asarray, jax.device_get(params))
    name = model_hash(model, config, params, calibrated)
    wide = profile == PORTABLE
    predict = predictor(model, params, wide)
    kind, signal = (model.shape, model.levels), np.sqrt(model.sched.alpha_bar)
    return Codec(*kind, calibrated, name, predict, signal, b"" if wide else environment_hash())


def model_hash(
    model: Model, config: Mapping[str, Any], params: Any, calibrated: Calibration
) -> bytes:
    """The first eight bytes of a SHA-256 of all that decides what a file decodes to."""
    network = {
        name: value
        for name, value in config["model"].items()
        # format 1 knew one network, and had no name for it
        if name not in ("dtype", "remat", "dropout") and (name, value) != ("name", "unet")
    }
    chain = {name: config["diffusion"][name] for name in ("schedule", "output")}
    facts = [1, network, chain, list(model.shape), model.levels, calibration.to_json(calibrated)]
    hashed = hashlib.sha256(calibration.canonical_json(facts))
    for path, leaf in sorted(digest.named(params).items()):
        hashed.update(calibration.canonical_json([path, str(leaf.dtype), list(leaf.shape)]))
        hashed.update(np.ascontiguousarray(leaf, leaf.dtype.newbyteorder("<")).tobytes())
    return hashed.digest()[:8]


def predictor(model: Model, params: Any, wide: bool) -> Predict:
    """One image at a time, so that no batch decides how sums are ordered."""
    dtype = jnp.float64 if wide else jnp.float32
    network = model.network.clone(dtype=dtype, remat=())

    def x_0(params, x_t, t):
        return models.denoiser(model._replace(network=network), params)(x_t, t).x_0

    # A TPU has no float64; the host beside it has.
    place = jax.devices("cpu")[0] if wide and jax.default_backend() == "tpu" else jax.devices()[0]
    with x64(wide), jax.default_matmul_precision("highest"):
        cast = jax.device_put(jax.tree.map(lambda leaf: leaf.astype(dtype), params), place)
        compiled = jax.jit(x_0)

    def predict(x_t: Image, t: int) -> Image:
        with x64(wide), jax.default_matmul_precision("highest"):
            given = jax.device_put(x_t[None].astype(dtype), place), np.array([t], np.int32)
            return np.asarray(compiled(cast, *given)[0], np.float64)

    return predict


def environment_hash() -> bytes:
    """Four bytes of what float32's last digits depend on."""
    device = jax.devices()[0]
    facts = [device.platform, device.device_kind, jax.__version__, jaxlib.__version__]
    facts += [platform.machine(), os.environ.get("XLA_FLAGS", ""), str(os.cpu_count())]
    return hashlib.sha256(calibration.canonical_json(facts)).digest()[:4]
