"""--mode=train: Algorithm 1 on a mesh, from the newest checkpoint in the run's folder."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpm_jax.datasets import batches as data_batches
from ddpm_jax.datasets import class_names, pixels, source
from ddpm_jax.distributed import mesh, processes
from ddpm_jax.run import record, sampling
from ddpm_jax.run import state as states
from ddpm_jax.run.run import Run
from ddpm_jax.run.state import TrainState
from ddpm_jax.runtime import checkpoint, console, files, metrics_log, signals
from ddpm_jax.runtime import images as image_output
from ddpm_jax.training import cadence, gradient, outlook, start

MAX_SKIPPED = 10  # consecutive steps; a run that has skipped so many will not recover


def train_step(run: Run, state: TrainState, batch: source.Batch) -> TrainState:
    """One update of Algorithm 1. Its random numbers are global arrays, the same on any number of devices."""
    key = jax.random.fold_in(jax.random.key(run.seed), state.step)
    key_flip, key_t, key_eps, key_dropout, key_label = jax.random.split(key, 5)
    images, labels = jax.tree.map(jnp.asarray, batch)
    count = images.shape[:1]
    if run.data.flip:
        images = pixels.flip(images, jax.random.bernoulli(key_flip, shape=count))
    if run.train.label_dropout:
        hidden = jax.random.bernoulli(key_label, run.train.label_dropout, count)
        labels = jnp.where(hidden, run.model.network.classes, labels)
    x_0 = pixels.normalize(images, run.model.levels)
    t, weight = run.model.timesteps.draw(state.memory, key_t, count)
    eps = jax.random.normal(key_eps, x_0.shape)

    examples = gradient.Examples(x_0=x_0, t=t, eps=eps, weight=weight, labels=labels)
    losses, grads, norm = gradient.gradient(run, state.params, examples, key_dropout)
    loss = jnp.mean(weight * losses)  # for the log; the gradient above is of the same mean
    updates, opt_state = run.optimizer.update(grads, state.opt_state, state.params)  # the EMA too
    params = optax.apply_updates(state.params, updates)
    memory = run.model.timesteps.learn(state.memory, t, losses)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    new, old = (params, opt_state, memory), (state.params, state.opt_state, state.memory)
    params, opt_state, memory = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    return TrainState(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        memory=memory,
        window=states.add_step(state.window, state.step + 1, loss, norm, finite),
    )


def compiled_step(run: Run) -> jax.stages.Wrapped:
    """Returns the jitted train step, (state, batch) -> state; it donates the state."""
    shardings = states.shardings(run)
    return jax.jit(
        lambda state, batch: train_step(run, state, batch),
        in_shardings=(shardings, mesh.batch_sharding(run.mesh)),
        out_shardings=shardings,
        donate_argnums=0,
    )


def grid_program(run: Run) -> Callable[[TrainState], image_output.Grid]:
    """Returns a function that draws the EMA's sample grid, from the same noise at every training step."""
    sample = sampling.make_program(run.model, run.train.grid.chain)
    count = run.train.grid.count
    numbers = np.arange(-(-count // run.mesh.size) * run.mesh.size)  # a multiple of the devices
    keys = sampling.image_keys(run, run.sample.seed, numbers)

    def draw(state: TrainState) -> image_output.Grid:
        params = sampling.program_inputs(run, states.ema(run, state), run.train.grid.chain, numbers)
        images = mesh.fetch(sample(params, keys))
        classes = sampling.classes_in_turn(run.model, run.train.grid.chain)
        return image_output.grid(pixels.quantize(images[:count], run.model.levels), classes)

    return draw


def train(run: Run) -> None:
    """Trains to train.steps, resuming a stopped run. Raises Stopped after a signal, having saved."""
    settings = run.train
    signals.begin("the start of training")
    state = start.resume_or_initialize(run)
    step = first = int(state.step)
    last = settings.steps
    if first >= last:
        console.say(f"nothing to train: step {first} of {last} is done")
        return
    labelled = run.model.network.classes > 0
    source = data_batches.load(run.data.open(run.data.split), labelled)
    labels = source.names if labelled else run.labels
    record.write(run.directory, run.config, run.model.shape, run.model.levels, labels)
    if labelled and not class_names.are_numbers(source.names):
        console.say(f"labels   {class_names.table(source.names)}")
    start.show_images(run, source, first)
    step_fn, draw = compiled_step(run), grid_program(run)
    rows = mesh.local_rows(settings.batch_size)
    keep = (settings.keep, settings.keep_every, settings.keep_best)
    rate, clock, announce = None, cadence.Clock.start(step), outlook.announcer(run)
    with (
        closing(
            data_batches.batches(source, run.seed, settings.batch_size, rows, first, last, labelled)
        ) as batches,
        closing(checkpoint.manager(run.checkpoints, *keep)) as manager,
        closing(metrics_log.writer(run.directory, first, settings.tracker, run.config)) as writer,
        console.progress("training", last, first) as bar,
        ExitStack() as compiling,
    ):
        scalars = writer.newest()
        loss = scalars.get("loss", math.nan)
        signals.begin(f"step {step + 1}, which is compiled first,")
        work = "compiling the train step (seconds to minutes)"
        compiling.enter_context(console.doing(work, bar, at_once=True))
        while step < last and not signals.agree_to_stop():
            batch = next(batches)
            step += 1
            state = step_fn(state, mesh.put(run.mesh, batch))
            processes.report_place(f"step {step}")
            bar.update()
            if rate is None:  # the first step compiles, so its time does not count
                jax.block_until_ready(state.step)
                compiling.close()
                signals.begin("the step in hand")
                rate = console.Rate.start(step)
            announce(step, state)
            if cadence.is_logged(step, settings.log_every):
                scalars = window_means(check_finite(run, source, state))
                loss = scalars.get("loss", loss)
                scalars["learning_rate"] = states.learning_rate(run, state)
                state = states.reset_window(run, state)
                scalars |= speed(rate, step, settings.batch_size)
                writer.write_scalars(step, scalars)
                console.show_training_row(bar, step, last, scalars)
                rate = console.Rate.start(step)
            is_last_grid = step == last and settings.sample_every > 0
            if cadence.is_due(step, settings.sample_every) or is_last_grid:
                with console.doing("drawing samples", bar):
                    image = draw(state)
                writer.write_images(step, {"samples": image})
                image_output.write_png(run.directory / "samples" / f"{step}-grid.png", image)
                rate = console.Rate.start(step)
            is_time, clock = cadence.check(clock, step, settings.checkpoint_minutes)
            if cadence.is_due(step, settings.checkpoint_every) or is_time:
                with console.doing("saving", bar):
                    save(run, source, manager, state, scalars)
                clock = cadence.Clock.start(step)
        with console.doing("saving", bar):
            if step > first:
                save(run, source, manager, state, scalars)
            checkpoint.finish(manager)
    signals.check(f"at step {step} of {last}")
    console.say(f"trained to step {step}, {describe_end(state.window, loss)}")


def save(
    run: Run,
    source: source.Source,
    manager,
    state: TrainState,
    scalars: Mapping[str, float],
) -> None:
    """Saves the state once all processes are here: Orbax waits too, but does not say for which."""
    check_finite(run, source, state)
    step = int(state.step)
    processes.barrier(f"the save of step {step}")
    checkpoint.save(manager, step, state, {"loss": scalars.get("loss", math.inf)})


def describe_end(window: states.Window, loss: float) -> str:
    """Returns the newest mean loss, "loss" if no step since then was finite, and the steps just skipped."""
    loss, skipped = window_means(window).get("loss", loss), int(window.in_a_row)
    known = f"loss {loss:.4f}" if math.isfinite(loss) else "loss unknown"
    return known + (
        f"; the last {skipped} steps were not finite and were skipped" if skipped else ""
    )


def window_means(window: states.Window) -> dict[str, float]:
    """Returns the means since the last logged row and the number of skipped steps; empty right after it."""
    averages = {"loss": window.loss, "grad_norm": window.grad_norm}
    means = {name: float(mean.compute()) for name, mean in averages.items() if mean.count > 0}
    return means | ({"skipped": float(window.skipped)} if window.skipped > 0 else {})


def check_finite(run: Run, source: source.Source, state: TrainState) -> states.Window:
    """Returns the window, if it may be logged and saved.

    Raises FloatingPointError at the first loss or gradient that is not finite, or, with
    train.on_nonfinite = "skip", at the tenth in a row, or where all steps of a shorter run were not, after
    writing the indices of the first's batch.
    """
    window, settings = state.window, run.train
    step, limit = int(window.first_skipped), min(MAX_SKIPPED, settings.steps)
    if step == 0 or (settings.on_nonfinite == "skip" and window.in_a_row < limit):
        return window
    indices = data_batches.batch_indices(
        source.count, run.seed, settings.batch_size, step - 1
    ).tolist()
    path = run.directory / f"nonfinite-{step}.json"
    files.write_json(path, {"step": step, "split": run.data.split, "indices": indices})
    raise FloatingPointError(
        f"the loss or its gradient is not finite at step {step}; its batch is in {path}, and its"
        " update was not saved. Lower optimizer.learning_rate in another --workdir"
        + ("" if settings.on_nonfinite == "skip" else ", or add --config.train.on_nonfinite=skip")
    )


def speed(rate: console.Rate, step: int, batch_size: int) -> dict[str, float]:
    """Returns steps and images per second; empty before the first step after compilation."""
    if step == rate.step:
        return {}
    steps_per_second = rate.per_second(step)
    return {
        "steps_per_second": steps_per_second,
        "images_per_second": steps_per_second * batch_size,
    }
