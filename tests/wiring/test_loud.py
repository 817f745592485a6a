"""The loud run says something: else the tests of wiring that lean on it would prove nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import by_hand, loud

from ddpm_jax.networks.conditioning import Given
from ddpm_jax.run import state
from ddpm_jax.training.start import resume_or_initialize


@pytest.mark.parametrize("kind", loud.KINDS)
def test_its_output_depends_on_weights_time_label_and_dropout(loud_run, kind):
    run = loud_run(kind)
    like = state.abstract(run).params
    raw, average = loud.weights(like, loud.RAW), loud.weights(like, loud.EMA)
    x_t, of_class = jax.random.normal(jax.random.key(0), (8, 8, 8, 1)), kind == "conditional"

    @jax.jit
    def says(params, t, label):
        labels = jnp.full(8, label) if of_class else None
        return by_hand.output(run, params, x_t, jnp.full(8, t), labels)

    @jax.jit
    def in_training(params, t, label):
        given = Given(labels=jnp.full(8, label) if of_class else None)
        rngs = {"dropout": jax.random.key(1)}
        return run.model.network.apply(
            {"params": params}, x_t, jnp.full(8, t) - 1, True, given, rngs=rngs
        )

    usual = says(average, 4, 3)
    others = {
        "no weights": says(jax.tree.map(np.zeros_like, average), 4, 3),
        "raw weights": says(raw, 4, 3),
        "another time": says(average, 5, 3),
        "dropout": in_training(average, 4, 3),
    }
    if of_class:
        others |= {"another label": says(average, 4, 2), "no label": says(average, 4, 10)}
    for what, other in others.items():
        assert float(jnp.abs(other - usual).mean()) > 0.03 * float(usual.std()), what


def test_it_is_read_and_resumed_like_any_other_run(loud_run):
    run = loud_run()
    step, average = state.read_ema(run)
    _, raw = state.read_raw(run)
    like = state.abstract(run).params
    assert step == loud.STEP
    for found, draw in ((average, loud.EMA), (raw, loud.RAW)):
        drawn = loud.weights(like, draw)
        jax.tree.map(np.testing.assert_array_equal, found, drawn)
    assert int(resume_or_initialize(run).step) == loud.STEP < run.train.steps
