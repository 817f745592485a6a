"""The train state, and reading it back: what the programs share through a run's checkpoints."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from clu import metrics
from jaxtyping import Array, Bool, Int

from ddpm_jax import optimizer
from ddpm_jax.distributed import mesh
from ddpm_jax.losses import timesteps
from ddpm_jax.run import model
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint, console


class Window(NamedTuple):
    """What was seen since the last logged row. Steps that were not finite count in the last three only."""

    loss: metrics.Average
    grad_norm: metrics.Average
    skipped: Int[Array, ""]
    first_skipped: Int[Array, ""]  # the step, or 0
    in_a_row: Int[Array, ""]  # steps that were not finite up to now; logging does not reset it


class TrainState(NamedTuple):
    """All that a checkpoint holds. No key: randomness comes from the seed and the step."""

    step: Int[Array, ""]
    params: Any
    opt_state: optax.OptState  # the EMA of the parameters is in it
    memory: timesteps.Memory  # what the drawing of t goes by
    window: Window


def empty_window() -> Window:
    averages = metrics.Average.empty(), metrics.Average.empty()
    return Window(*averages, *(jnp.zeros([], jnp.int32) for _ in range(3)))


def add_step(
    window: Window, step: Int[Array, ""], loss: Array, grad_norm: Array, finite: Bool[Array, ""]
) -> Window:
    """The window with one more step in it."""
    was_first = ~finite & (window.first_skipped == 0)
    return Window(
        window.loss.merge(metrics.Average.from_model_output(loss, mask=finite[None])),
        window.grad_norm.merge(metrics.Average.from_model_output(grad_norm, mask=finite[None])),
        window.skipped + (~finite).astype(jnp.int32),
        jnp.where(was_first, step, window.first_skipped),
        jnp.where(finite, 0, window.in_a_row + 1),
    )


def reset_window(run: Run, state: TrainState) -> TrainState:
    """Placed as the rest of the state is, or the train step would be compiled once more for it."""
    window = jax.jit(empty_window, out_shardings=mesh.replicated_sharding(run.mesh))()
    return state._replace(window=window._replace(in_a_row=state.window.in_a_row))


def forget_skipped(run: Run, state: TrainState) -> TrainState:
    """Without the steps left out before: the next one that is not finite is to be noticed."""
    none = jax.jit(empty_window, out_shardings=mesh.replicated_sharding(run.mesh))().first_skipped
    return state._replace(window=state.window._replace(first_skipped=none))


def initial(run: Run) -> TrainState:
    """Jit it: eager initialisation takes tens of seconds."""
    params = model.initial(run.model, jax.random.key(run.seed))
    opt_state, memory = run.optimizer.init(params), run.model.timesteps.init()
    return TrainState(jnp.zeros([], jnp.int32), params, opt_state, memory, empty_window())


def abstract(run: Run) -> TrainState:
    """Shapes, dtypes and shardings only."""
    shapes = jax.eval_shape(lambda: initial(run))
    return checkpoint.abstract(shapes, mesh.state_shardings(run.layout, shapes))


def shardings(run: Run) -> TrainState:
    return jax.tree.map(lambda leaf: leaf.sharding, abstract(run))


def ema(run: Run, state: TrainState) -> Any:
    """The averaged parameters, whole on every device: what samples and is measured."""
    return mesh.gather(run.layout, optimizer.ema_params(state.opt_state))


def read_newest(run: Run) -> tuple[int, TrainState, set[int]] | None:
    """The newest whole checkpoint's step and state, and the newer steps that are damaged."""
    return checkpoint.restore_newest(run.checkpoints, abstract(run), console.say)


def read_ema(run: Run) -> tuple[int, Any]:
    """The newest whole checkpoint's step and EMA weights. Raises ValueError if there is no checkpoint yet."""
    step, state = require_newest(run)
    return step, ema(run, state)


def read_raw(run: Run) -> tuple[int, Any]:
    """The same with the weights as they were trained."""
    step, state = require_newest(run)
    return step, mesh.gather(run.layout, state.params)


def require_newest(run: Run) -> tuple[int, TrainState]:
    found = read_newest(run)
    if found is None:
        raise ValueError(f"{run.directory} holds no finished checkpoint yet; train on first")
    return found[:2]
