"""The field that a wrong name stands for is named first."""

import pytest
from conftest import load

from ddpm_jax.cli import command_line, suggestion

KNOWN = command_line.field_names(load("image_folder").to_dict())
MEANT = {
    "optimizer.lr": "optimizer.learning_rate",
    "train.lr": "optimizer.learning_rate",
    "lr": "optimizer.learning_rate",
    "optimizer.lerning_rate": "optimizer.learning_rate",
    "train.bs": "train.batch_size",
    "sample.batch": "sample.batch_size",
    "batch_size": "train.batch_size",
    "ema": "optimizer.ema_decay",
    "optimizer.ema_rate": "optimizer.ema_decay",
    "data.res": "data.image_size",
    "model.resolution": "data.image_size",
    "T": "diffusion.schedule.T",
    "diffusion.T": "diffusion.schedule.T",
    "diffusion.timestep": "diffusion.timesteps",
    "diffusion.num_timesteps": "diffusion.timesteps",
    "train.step": "train.steps",
    "trian.steps": "train.steps",
    "train.num_steps": "train.steps",
    "train.iterations": "train.steps",
    "dropout": "model.dropout",
    "model.dropuot": "model.dropout",
    "model.ch": "model.channels",
    "model.attn": "model.attention",
    "train.seed": "seed",
    "sample.cout": "sample.count",
    "eval.quality.inceptoin": "eval.quality.inception",
}


@pytest.mark.parametrize("name", MEANT)
def test_the_field_that_is_meant_comes_first(name):
    assert suggestion.suggest_fields(name, KNOWN)[0] == MEANT[name]


def test_a_name_that_is_like_nothing_suggests_nothing():
    assert suggestion.suggest_fields("model.xyzzyq", KNOWN) == []
