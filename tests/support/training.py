"""Runs trained in this process, and what they leave."""

import jax
import numpy as np
from etils import epath
from support.stub import stubbed

from ddpm_jax.config import build
from ddpm_jax.run import state
from ddpm_jax.runtime import checkpoint
from ddpm_jax.training import train


def run_of(config, directory, **fields):
    """The objects of a config with some of its fields changed."""
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return build.run(config, epath.Path(directory))


def stub_of(config, directory, **fields):
    """The same with a network that compiles at once, where any will do."""
    return stubbed(run_of(config, directory, **fields))


def trained(run):
    train.train(run)
    return newest(run)


def newest(run):
    with checkpoint.reader(run.directory / "checkpoints") as manager:
        return checkpoint.restore(manager, manager.latest_step(), state.abstract(run))


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_equal(one, other):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
