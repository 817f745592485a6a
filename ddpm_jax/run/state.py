"""The train state, and reading it from a run's checkpoints."""

import re
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics
from etils import epath
from jaxtyping import Array, Bool, Int

from ddpm_jax import optimizer
from ddpm_jax.distributed import mesh
from ddpm_jax.losses import timesteps
from ddpm_jax.run import model
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import checkpoint, console

BEST = "best"
YOUNG = 0.5  # the share of initial weights in an EMA, above which it says little of the training


class Window(NamedTuple):
    """Statistics since the last logged row. Both averages are over finite steps only."""

    loss: metrics.Average
    grad_norm: metrics.Average
    skipped: Int[Array, ""]  # how many steps were not finite
    first_skipped: Int[Array, ""]  # the first of them; 0 if there were none
    in_a_row: Int[Array, ""]  # the length of the current run of them; logging does not reset it


class TrainState(NamedTuple):
    """The content of a checkpoint. It has no key: randomness comes from the seed and the step."""

    step: Int[Array, ""]
    params: Any
    opt_state: optax.OptState  # the EMA of the parameters is in it
    memory: timesteps.Memory  # the loss history from which importance sampling draws t
    window: Window


def empty_window() -> Window:
    return Window(
        loss=metrics.Average.empty(),
        grad_norm=metrics.Average.empty(),
        skipped=jnp.zeros([], jnp.int32),
        first_skipped=jnp.zeros([], jnp.int32),
        in_a_row=jnp.zeros([], jnp.int32),
    )


def add_step(
    window: Window, step: Int[Array, ""], loss: Array, grad_norm: Array, finite: Bool[Array, ""]
) -> Window:
    """Returns the window with one more step added."""
    is_first = ~finite & (window.first_skipped == 0)
    average = partial(metrics.Average.from_model_output, mask=finite[None])
    return Window(
        loss=window.loss.merge(average(loss)),
        grad_norm=window.grad_norm.merge(average(grad_norm)),
        skipped=window.skipped + (~finite).astype(jnp.int32),
        first_skipped=jnp.where(is_first, step, window.first_skipped),
        in_a_row=jnp.where(finite, 0, window.in_a_row + 1),
    )


def reset_window(run: Run, state: TrainState) -> TrainState:
    """Returns the state with an empty window that keeps 'in_a_row'."""
    # Sharded like the rest of the state: otherwise the train step would be compiled a second time.
    window = jax.jit(empty_window, out_shardings=mesh.replicated_sharding(run.mesh))()
    return state._replace(window=window._replace(in_a_row=state.window.in_a_row))


def forget_skipped(run: Run, state: TrainState) -> TrainState:
    """Returns the state without 'first_skipped', so that the next step that is not finite is reported."""
    window = jax.jit(empty_window, out_shardings=mesh.replicated_sharding(run.mesh))()
    return state._replace(window=state.window._replace(first_skipped=window.first_skipped))


def initial(run: Run) -> TrainState:
    """Returns the state at step 0. Call it under jit: eager initialisation takes tens of seconds."""
    params = model.initial(run.model, jax.random.key(run.seed))
    opt_state, memory = run.optimizer.init(params), run.model.timesteps.init()
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        opt_state=opt_state,
        memory=memory,
        window=empty_window(),
    )


def abstract(run: Run) -> TrainState:
    """Returns the state's shapes, dtypes and shardings, without arrays."""
    shapes = jax.eval_shape(lambda: initial(run))
    return checkpoint.abstract(shapes, mesh.state_shardings(run.layout, shapes))


def shardings(run: Run) -> TrainState:
    return jax.tree.map(lambda leaf: leaf.sharding, abstract(run))


def ema(run: Run, state: TrainState) -> Any:
    """Returns the averaged parameters, replicated on every device, for sampling and evaluation."""
    return mesh.gather(run.layout, optimizer.ema_params(state.opt_state))


def learning_rate(run: Run, state: TrainState) -> float:
    """Returns the learning rate of the newest update."""
    section = run.config["optimizer"]
    schedule = optimizer.warm_up(section["learning_rate"], section["warmup"])
    return np.asarray(schedule(max(optimizer.count_updates(state.opt_state) - 1, 0))).item()


def read_newest(run: Run) -> tuple[int, TrainState, set[int]] | None:
    """Returns the newest intact checkpoint's step and state, and the newer steps that are damaged."""
    return checkpoint.restore_newest(run.checkpoints, abstract(run), console.say)


def choose_step(run: Run, step: str | int | None) -> Run:
    """Returns the run with the checkpoint that its programs read: of a step, the best, or with None the newest.

    Raises ValueError if it has no such checkpoint.
    """
    if step is None:
        return run
    if step == BEST:
        return choose_best(run)
    if not re.fullmatch(r"\d+", f"{step}"):
        raise ValueError(f"step is {step!r}; it must be the step of a checkpoint, or {BEST}")
    folders = (run.checkpoints, best_folder(run) / "checkpoints")
    for folder in folders:
        if int(step) in checkpoint.list_steps(folder):
            return run._replace(step=int(step), checkpoints=folder)
    steps = sorted({step for folder in folders for step in checkpoint.list_steps(folder)})
    has = f"those of {', '.join(map(str, steps))}" if steps else "none"
    raise ValueError(f"{run.directory} has no checkpoint of step {step}; it has {has}")


def choose_best(run: Run) -> Run:
    """Returns the run with the checkpoint that --follow chose, else the one of the lowest loss, if it was kept."""
    folder = best_folder(run) / "checkpoints"
    steps = checkpoint.list_steps(folder)
    if steps:
        return run._replace(step=steps[-1], checkpoints=folder)
    step = checkpoint.lowest(run.checkpoints, run.train.keep_best) if run.train.keep_best else None
    if step is None:
        raise ValueError(
            f"{run.directory} has no best checkpoint; --mode=evaluate --follow chooses one"
            + ("" if run.weights == "ema" else f", with --weights={run.weights} for these weights")
        )
    return run._replace(step=step)


def best_folder(run: Run) -> epath.Path:
    """The folder of the checkpoint that --follow judges best by these weights, a workdir of its own."""
    return run.directory / f"{run.prefix}best"


def step_to_read(run: Run) -> int | None:
    """Returns the step of the checkpoint that programs will read if it is intact; None before the first."""
    steps = checkpoint.list_steps(run.checkpoints)
    return run.step if run.step is not None or not steps else steps[-1]


def read_weights(run: Run) -> tuple[int, Any]:
    """Returns the step of the checkpoint to read, and the parameters that run.weights names.

    Says so if the EMA is still mostly what training began with. Raises ValueError as 'read_ema' does.
    """
    if run.weights == "raw":
        return read_raw(run)
    step, state = read(run)
    share = optimizer.initial_share(state.opt_state, run.config["optimizer"]["ema_decay"])
    if share > YOUNG and not equal(optimizer.ema_params(state.opt_state), state.params):
        say_young(f"{run.directory}", step, share)
    return step, ema(run, state)


@jax.jit
def equal(one: Any, other: Any) -> Bool[Array, ""]:
    """Whether two trees of arrays are equal, as the EMA and the parameters of imported weights are."""
    return jnp.stack(jax.tree.leaves(jax.tree.map(jnp.array_equal, one, other))).all()


@lru_cache  # once per command, which may read the weights several times
def say_young(directory: str, step: int, share: float) -> None:
    """Says that samples of an EMA are mostly those of the weights that training began with."""
    console.say(
        f"the EMA at step {step} is still {100 * share:.4g} % initial weights; --weights=raw reads the"
        " trained weights themselves"
    )


def read_ema(run: Run) -> tuple[int, Any]:
    """Returns the step of the checkpoint to read, and its EMA parameters.

    Raises ValueError if there is no checkpoint yet.
    """
    step, state = read(run)
    return step, ema(run, state)


def read_raw(run: Run) -> tuple[int, Any]:
    """Returns the step of the checkpoint to read, and its parameters without averaging.

    Raises ValueError if there is no checkpoint yet.
    """
    step, state = read(run)
    return step, mesh.gather(run.layout, state.params)


def read(run: Run) -> tuple[int, TrainState]:
    """Returns the step and the state of the run's chosen checkpoint, or else of the newest intact one.

    Raises ValueError before the first checkpoint, checkpoint.Damaged if the chosen one is damaged.
    """
    if run.step is not None:
        return run.step, checkpoint.restore_step(run.checkpoints, run.step, abstract(run))
    found = read_newest(run)
    if found is None:
        raise ValueError(f"{run.directory} has no finished checkpoint yet; train it first")
    return found[:2]
