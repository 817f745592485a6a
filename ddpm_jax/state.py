"""The train state, and reading it back: what the programs share through a run's checkpoints."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from clu import metrics
from jaxtyping import Array, Int

from ddpm_jax import build, checkpoint, optimizer, parallel
from ddpm_jax.build import Run

Window = dict[str, metrics.Average]


class TrainState(NamedTuple):
    """All that a checkpoint holds. No key: randomness comes from the seed and the step."""

    step: Int[Array, ""]
    params: Any
    opt_state: optax.OptState  # the EMA of the parameters is in it
    window: Window  # averages since the last logged row


def empty_window() -> Window:
    return {name: metrics.Average.empty() for name in ("loss", "grad_norm")}


def with_empty_window(run: Run, state: TrainState) -> TrainState:
    """Placed as the rest of the state is, or the train step would be compiled once more for it."""
    return state._replace(window=jax.device_put(empty_window(), parallel.replicated(run.mesh)))


def initial(run: Run) -> TrainState:
    """Jit it: eager initialisation takes tens of seconds."""
    params = build.initial(run.model, jax.random.key(run.seed))
    return TrainState(jnp.zeros([], jnp.int32), params, run.optimizer.init(params), empty_window())


def abstract(run: Run) -> TrainState:
    """Shapes, dtypes and shardings only."""
    everywhere = parallel.replicated(run.mesh)
    return checkpoint.abstract(jax.eval_shape(lambda: initial(run)), everywhere)


def averaged(run: Run) -> tuple[int, Any]:
    """The newest checkpoint's step and EMA weights. There must be a checkpoint."""
    with checkpoint.reader(run.directory / "checkpoints") as manager:
        step = manager.latest_step()
        state = checkpoint.restore(manager, step, abstract(run))
    return step, optimizer.averaged(state.opt_state)
