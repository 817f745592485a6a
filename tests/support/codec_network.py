"""A small untrained network for digits, every weight of which matters, for tests of the codec."""

from typing import NamedTuple

import jax
import numpy as np
from conftest import tiny_config
from etils import epath

from ddpm_jax.codec import calibration, model
from ddpm_jax.config import build
from ddpm_jax.run import model as models


class Network(NamedTuple):
    """The arguments of model.codec."""

    model: models.Model
    config: dict
    params: dict
    plan: calibration.Calibration


def run(digits, folder, **diffusion):
    config = tiny_config(digits)
    config.diffusion.update(diffusion)
    return build.run(config, epath.Path(folder))


def network(run):
    params = jax.eval_shape(lambda key: models.initial(run.model, key), jax.random.key(0))
    random = np.random.default_rng(0)

    def drawn(leaf):
        width = np.sqrt(max(np.prod(leaf.shape[:-1]), 1))
        return (random.normal(size=leaf.shape) / width).astype(np.float32)

    errors = np.linspace(0.01, 0.5, run.model.sched.T)
    plan = calibration.plan_steps(run.model.sched, errors, int(np.prod(run.model.shape)))
    return Network(run.model, run.config, jax.tree.map(drawn, params), plan)


def codec(of, **how):
    return model.codec(*of, **how)


def pictured(count, seed=0):
    return np.random.default_rng(seed).integers(0, 17, (count, 8, 8, 1)).astype(np.uint8)


def drifting(of, size):
    """Returns a codec whose network is off by size(t), up or down."""
    random = np.random.default_rng(0)

    def predict(x_t, t):
        return of.predict(x_t, t) + size(t) * random.choice([-1.0, 1.0], x_t.shape)

    return of._replace(predict=predict)
