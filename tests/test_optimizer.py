"""The paper's recipe, quirks included."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddpm_jax import optimizer

PARAMS = {"w": jnp.array([1.0, -2.0, 3.0]), "b": jnp.array(0.5)}
RECIPE = {"learning_rate": 0.1, "warmup": 4, "b1": 0.9, "b2": 0.999, "eps": 1e-8}


def gradients(n):
    return {"w": jnp.sin(n + jnp.arange(3.0)), "b": jnp.cos(jnp.array(1.0 * n))}


def run(chain, steps, params=PARAMS):
    state, seen = chain.init(params), []
    for n in range(steps):
        updates, state = chain.update(gradients(n), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen, state


def test_the_first_update_has_learning_rate_zero_and_warm_up_is_linear():
    schedule = optimizer.warm_up(2e-4, 5000)
    counts = [0, 1, 2500, 5000, 800_000]
    np.testing.assert_allclose(
        [schedule(n) for n in counts], [0, 4e-8, 1e-4, 2e-4, 2e-4], rtol=1e-6
    )
    seen, _ = run(optimizer.adam(**RECIPE, ema_decay=0.9), 2)
    np.testing.assert_array_equal(seen[0]["w"], PARAMS["w"])
    assert float(jnp.abs(seen[1]["w"] - PARAMS["w"]).max()) > 0.01


def test_adam_is_tensorflow_s():
    """var -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps), in float64 beside it."""
    chain = optimizer.scale_by_adam(0.9, 0.999, 1e-3)
    state, m, v = chain.init(PARAMS), 0.0, 0.0
    for n in range(5):
        updates, state = chain.update(gradients(n), state)
        g = np.asarray(gradients(n)["w"], np.float64)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected = np.sqrt(1 - 0.999 ** (n + 1)) / (1 - 0.9 ** (n + 1)) * m / (np.sqrt(v) + 1e-3)
        np.testing.assert_allclose(updates["w"], expected, rtol=1e-4)


def test_adam_differs_from_optax_s_only_in_where_eps_is_added():
    ours, theirs = optimizer.scale_by_adam(0.9, 0.999, 0.0), optax.scale_by_adam(eps=0.0)
    a, b = ours.init(PARAMS), theirs.init(PARAMS)
    for n in range(4):
        (x, a), (y, b) = ours.update(gradients(n), a), theirs.update(gradients(n), b)
        np.testing.assert_allclose(x["w"], y["w"], rtol=1e-4)
    with_eps, _ = optimizer.scale_by_adam(0.9, 0.999, 0.1).update(gradients(0), ours.init(PARAMS))
    assert not np.allclose(with_eps["w"], x["w"])


def test_the_average_begins_at_the_initial_weights_and_follows_every_update():
    chain = optimizer.adam(**RECIPE, ema_decay=0.9)
    seen, state = run(chain, 6)
    expected = PARAMS["w"]
    for params in seen:
        expected = 0.9 * expected + 0.1 * params["w"]
    np.testing.assert_allclose(optimizer.ema_params(state)["w"], expected, rtol=1e-5)


def test_after_k_steps_the_initial_weights_still_count_decay_to_the_k():
    """No warm-up, no debiasing: parameters that jump to zero at once leave decay^k in the average."""
    chain = optimizer.ema(0.5)
    state = chain.init(PARAMS)
    updates = jax.tree.map(lambda p: -p, PARAMS)
    _, state = chain.update(updates, state, PARAMS)
    for _ in range(3):
        zeros = jax.tree.map(jnp.zeros_like, PARAMS)
        _, state = chain.update(zeros, state, zeros)
    np.testing.assert_allclose(state.ema["w"], 0.5**4 * PARAMS["w"], rtol=1e-6)


def test_the_average_is_float32_and_can_be_donated_with_the_parameters():
    params = {"w": jnp.ones(3)}
    state = optimizer.ema(0.9).init(params)
    swap = jax.jit(
        lambda params, state: (state.ema, optimizer.EmaState(params)), donate_argnums=(0, 1)
    )
    swap(params, state)  # "attempt to donate the same buffer twice" if init did not copy
    assert params["w"].is_deleted() and state.ema["w"].is_deleted()
    assert optimizer.ema(0.9).init({"w": jnp.ones(3, jnp.bfloat16)}).ema["w"].dtype == jnp.float32


@pytest.mark.parametrize("max_norm", [0.1, 100.0])
def test_clipping_scales_to_the_norm_and_never_up(max_norm):
    clipped, norm = optimizer.clip(PARAMS, max_norm)
    assert float(norm) == pytest.approx(np.sqrt(14.25))
    assert float(optax.global_norm(clipped)) == pytest.approx(min(max_norm, np.sqrt(14.25)))


@pytest.mark.parametrize(
    "field, value", [("b1", 1.0), ("ema_decay", -0.1), ("learning_rate", -1.0), ("warmup", -1)]
)
def test_numbers_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=f"optimizer.{field} is {value}"):
        optimizer.adam(**RECIPE | {"ema_decay": 0.9} | {field: value})


def test_the_initial_weights_share_of_the_average_is_what_is_left_of_them():
    """Ones that training turns to noughts at once leave their share."""
    chain = optimizer.adam(0.0, 0, 0.9, 0.999, 1e-8, ema_decay=0.8)
    ones, noughts = {"w": jnp.ones(3)}, {"w": jnp.zeros(3)}
    state = chain.init(ones)
    for left in (0.8, 0.64, 0.512):
        _, state = chain.update(noughts, state, noughts)
        assert optimizer.initial_share(state, 0.8) == pytest.approx(left)
        np.testing.assert_allclose(optimizer.ema_params(state)["w"], left, rtol=1e-6)
