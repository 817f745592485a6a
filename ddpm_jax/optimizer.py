"""The paper's optimiser as an optax chain: TensorFlow's form of Adam, a warm-up, and the EMA of the parameters.

The EMA is the chain's last link, so it is checkpointed, sharded and donated with the optax state.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Params = Any


class AdamState(NamedTuple):
    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: Params
    nu: Params


class EmaState(NamedTuple):
    ema: Params


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam with eps added to sqrt(v) before its bias correction: Kingma and Ba 2015, end of Sec. 2.

    This is TensorFlow's form; optax adds eps after it. They differ while b2^count is near one.
    """

    def init(params):
        return AdamState(
            count=jnp.zeros([], jnp.int32),
            mu=jax.tree.map(jnp.zeros_like, params),
            nu=jax.tree.map(jnp.zeros_like, params),
        )

    def update(updates, state, params=None):
        count = cast(Array, optax.safe_increment(state.count))
        mu = jax.tree.map(lambda m, g: b1 * m + (1.0 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1.0 - b2) * g**2, state.nu, updates)
        scale = jnp.sqrt(1.0 - b2**count) / (1.0 - b1**count)
        updates = jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, AdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


def ema(decay: float) -> optax.GradientTransformation:
    """Averages the parameters after each update, starting from the initial ones, in float32.

    There is no warm-up or debiasing: after k steps the initial parameters have weight decay^k. It must be
    the last link of the chain.
    """

    def init(params):
        # Copies: a buffer shared with the parameters cannot be donated with them.
        return EmaState(ema=jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("the EMA needs the parameters: call update(gradient, state, params)")
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda e, p: e + (1.0 - decay) * (p - e), state.ema, new)
        return updates, EmaState(ema=average)

    return optax.GradientTransformation(init, update)


def ema_params(opt_state: Any) -> Params:
    """Returns the EMA of the parameters from the optimiser's state."""
    return optax.tree.get(opt_state, "ema")


def count_updates(opt_state: Any) -> int:
    """Returns the number of updates that the optimiser has made; skipped steps make none."""
    _, updates = optax.tree.get_all_with_path(opt_state, "count")[0]
    return int(updates)


def initial_share(opt_state: Any, decay: float) -> float:
    """Returns the weight, decay^updates, that the initial parameters still have in the EMA."""
    return decay ** count_updates(opt_state)


def warm_up(learning_rate: float, steps: int) -> optax.Schedule:
    """Returns a schedule that is linear from 0 at the first update, and constant after 'steps' updates."""
    return lambda count: learning_rate * jnp.minimum(count / max(steps, 1), 1.0)


def adam(
    learning_rate: float, warmup: int, b1: float, b2: float, eps: float, ema_decay: float
) -> optax.GradientTransformation:
    """Returns the paper's optimiser, Appendix B; 'warmup' is in steps.

    Raises ValueError if a decay is outside [0, 1) or a step size is negative.
    """
    for name, decay in (("b1", b1), ("b2", b2), ("ema_decay", ema_decay)):
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"optimizer.{name} is {decay}; it must be at least 0 and below 1")
    for name, size in (("learning_rate", learning_rate), ("warmup", warmup), ("eps", eps)):
        if not size >= 0.0:
            raise ValueError(f"optimizer.{name} is {size}; it must not be negative")
    return optax.chain(
        scale_by_adam(b1, b2, eps),
        optax.scale_by_learning_rate(warm_up(learning_rate, warmup)),
        ema(ema_decay),
    )


def clip(gradient: Params, max_norm: float) -> tuple[Params, Float[Array, ""]]:
    """Scales a gradient down to a global norm of at most 'max_norm'; also returns its norm before."""
    norm = optax.global_norm(gradient)
    scale = max_norm / jnp.maximum(norm, max_norm)
    return jax.tree.map(lambda g: scale * g, gradient), norm
