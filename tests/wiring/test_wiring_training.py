"""What training's step is given, which seed decides it, and which checkpoints stay; no network is differentiated here."""

import json
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import optimizer
from ddpm_jax.datasets import batches, source
from ddpm_jax.distributed import mesh
from ddpm_jax.losses import timesteps
from ddpm_jax.run import state
from ddpm_jax.runtime import checkpoint, tracker
from ddpm_jax.training import gradient, train

BATCH = 16


def examples(run, step=0):
    """What the step's gradient is asked about for the same batch: a dictionary of arrays."""
    current = state.abstract(run)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), current)
    blank = blank._replace(step=jnp.asarray(step, jnp.int32))
    images = np.arange(BATCH * 64).reshape(BATCH, 8, 8, 1).astype(np.uint8) % 17
    labels = np.arange(BATCH, dtype=np.int32) % 10 if run.model.network.classes else None
    batch = mesh.put(run.mesh, source.Batch(images, labels))

    def asked(current, batch):
        seen = {}

        def recorded(run, params, examples, dropout):
            seen.update(examples._asdict(), dropout=jax.random.key_data(dropout))
            zeros = jax.tree.map(jnp.zeros_like, params)
            return gradient.Gradient(jnp.ones(BATCH), zeros, jnp.float32(1.0))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train.gradient, "gradient", recorded)
            train.train_step(run, current, batch)
        return {name: value for name, value in seen.items() if value is not None}

    return jax.tree.map(np.asarray, jax.jit(asked)(blank, batch))


def test_mirrors_times_noise_masks_and_hidden_labels_are_the_same_on_1_2_and_8_devices(loud_run):
    fields = {"train.label_dropout": 0.5}
    found = {
        n: examples(loud_run("conditional", **{"parallel.devices": n} | fields)) for n in (1, 2, 8)
    }
    hidden = found[1]["labels"] == 10
    assert 3 < hidden.sum() < 13
    np.testing.assert_array_equal(found[1]["labels"][~hidden], (np.arange(BATCH) % 10)[~hidden])
    for other in (found[2], found[8]):
        jax.tree.map(np.testing.assert_array_equal, other, found[1])


def test_another_seed_or_step_is_another_mirror_time_noise_mask_and_hidden_label(loud_run):
    one, other = (examples(loud_run("conditional", seed=seed)) for seed in (3, 4))
    later = examples(loud_run("conditional"), step=1)
    for name in ("x_0", "t", "eps", "labels", "dropout"):
        for changed in (other, later):
            assert (changed[name] != one[name]).any(), name


def test_another_seed_is_another_beginning(loud_run):
    def first(seed):
        run = loud_run(seed=seed)
        return jax.jit(lambda: state.initial(run).params["conv_in"]["kernel"])()

    assert (first(3) != first(4)).all()


@pytest.fixture
def batches_seen(monkeypatch):
    """The batches that 'train.train' takes a step of, while a step only counts and logs a loss.

    Losses fall to step 7 and rise again.
    """
    seen = []

    def compiled_step(run):
        def step(current, batch):
            seen.append(jax.tree.map(np.asarray, batch))
            now = current.step + 1
            loss = jnp.abs(now - 7.0)
            window = state.add_step(current.window, now, loss, loss, jnp.asarray(True))
            return current._replace(step=now, window=window)

        return step

    monkeypatch.setattr(train, "compiled_step", compiled_step)
    return seen


@pytest.mark.parametrize("seed", [3, 4])
def test_the_seed_decides_the_order_of_the_data_and_a_resumed_run_keeps_it(
    loud_run, batches_seen, seed
):
    run = loud_run("conditional", seed=seed)
    train.train(run)
    source = run.data.open("train")
    assert len(batches_seen) == 2  # steps 5 and 6 of 6
    for n, batch in enumerate(batches_seen, start=4):
        rows = batches.batch_indices(source.count, seed, BATCH, n)
        np.testing.assert_array_equal(batch.images, source.read(rows))
        np.testing.assert_array_equal(batch.labels, source.labels(rows))


EVERY_STEP = {"train.steps": 11, "train.checkpoint_every": 1, "train.log_every": 1}


@pytest.mark.parametrize(
    "keep, kept",
    [({"keep": 2}, [10, 11]), ({"keep_every": 3, "keep_best": "loss", "keep": 1}, [6, 7, 9, 11])],
)
def test_training_keeps_the_checkpoints_that_the_config_says(loud_run, batches_seen, keep, kept):
    run = loud_run(**EVERY_STEP, **{f"train.{name}": value for name, value in keep.items()})
    train.train(run)
    assert checkpoint.list_steps(run.checkpoints) == kept


def test_training_logs_draws_and_saves_as_often_as_the_config_says(
    loud_run, batches_seen, monkeypatch
):
    """And takes as many steps, of as many images; and opens the tracker that it names."""
    opened = []
    monkeypatch.setattr(tracker, "open_run", lambda *args: opened.append(args))
    monkeypatch.setattr(
        train, "grid_program", lambda run: lambda current: np.zeros((8, 8, 1), np.uint8)
    )
    every = {"log_every": 2, "sample_every": 3, "checkpoint_every": 4, "steps": 11}
    every |= {"batch_size": 24, "tracker": "wandb"}
    run = loud_run(**{f"train.{name}": value for name, value in every.items()})
    train.train(run)
    assert opened == [("wandb", run.directory, run.config)]
    lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [6, 8, 10]
    grids = sorted(
        int(path.name.split("-")[0]) for path in run.directory.glob("samples/*-grid.png")
    )
    assert grids == [6, 9, 11]
    assert (run.directory / "samples" / "training-images.png").exists()
    assert checkpoint.list_steps(run.checkpoints) == [4, 8, 11]
    assert [len(batch.images) for batch in batches_seen] == [24] * 7


def test_training_saves_after_so_many_minutes_and_counts_them_from_each_checkpoint(
    loud_run, batches_seen, monkeypatch
):
    """A step takes 25 seconds here, of which the minute's checkpoint is due after three."""
    clock = SimpleNamespace(monotonic=lambda: 25.0 * len(batches_seen))
    monkeypatch.setattr(train.cadence, "time", clock)
    fields = {"checkpoint_minutes": 1.0, "checkpoint_every": 8, "steps": 15, "keep": 9}
    run = loud_run(**{f"train.{name}": value for name, value in fields.items()})
    train.train(run)  # from step 4
    assert checkpoint.list_steps(run.checkpoints) == [4, 7, 8, 11, 14, 15]


STEP = {  # fields that a step of training is compiled of, and another value than the loud run's
    "data.flip": False,
    "model.dropout": 0.25,
    "model.dtype": "bfloat16",
    "parallel.params": "fsdp",
    "parallel.accumulation": 2,
    "parallel.remat": (8,),
    "train.clip": 0.5,
    "train.clip_groups": 2,
}


def test_another_value_of_a_field_is_another_step_of_training(unchecked, loud_run):
    """By what jax makes of it, without compiling it."""

    def traced(**fields):
        run = loud_run(**{"parallel.devices": 2} | fields)
        current = state.abstract(run)
        images = jax.ShapeDtypeStruct((BATCH, 8, 8, 1), jnp.uint8)
        step = jax.make_jaxpr(lambda *args: train.train_step(run, *args))
        return re.sub("0x[0-9a-f]+", "", str(step(current, source.Batch(images))))

    usual = traced()
    assert usual == traced()
    for field, value in STEP.items():
        assert traced(**{field: value}) != usual, field


def test_importance_remembers_losses_as_they_are_and_not_weighted(loud_run):
    """Each t's loss is a number of its own, so what is remembered can be read off."""
    run = loud_run(**{"diffusion.loss": "vlb", "diffusion.timesteps": "importance"})
    own = jnp.linspace(1.0, 3.0, 8)

    def of_t(sched, network, x_0, t, eps):
        return own[t - 1]

    run = run._replace(model=run.model._replace(objective=of_t))
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state.abstract(run))
    past = timesteps.History(jnp.outer(jnp.geomspace(9.0, 0.1, 8), jnp.ones(10)), jnp.full(8, 10))
    batch = source.Batch(jnp.zeros((BATCH, 8, 8, 1), jnp.uint8))
    _, weight = run.model.timesteps.draw(past, jax.random.key(0), (BATCH,))
    assert np.ptp(weight) > 1.0  # or weighted losses would be the same
    after = jax.jit(lambda batch: train.train_step(run, blank._replace(memory=past), batch))(batch)
    new = np.asarray(after.memory.losses != past.losses)
    assert new.sum() >= 2 and int(after.memory.seen.sum()) == 80 + BATCH
    of_each = np.broadcast_to(own[:, None], new.shape)
    np.testing.assert_allclose(after.memory.losses[new], of_each[new], rtol=1e-6)


def test_every_number_of_the_optimiser_is_adam_s(loud_run):
    """Two updates of one parameter, against Kingma and Ba's formula by hand."""
    fields = {"learning_rate": 0.1, "warmup": 1, "b1": 0.6, "b2": 0.7, "eps": 0.05}
    fields |= {"ema_decay": 0.75}
    run = loud_run(**{f"optimizer.{name}": value for name, value in fields.items()})
    params, m, v = {"x": jnp.float32(2.0)}, 0.0, 0.0
    current, x, average = run.optimizer.init(params), 2.0, 2.0
    for count, slope in enumerate((0.3, -0.2)):
        updates, current = run.optimizer.update({"x": jnp.float32(slope)}, current, params)
        params = {"x": params["x"] + updates["x"]}
        m, v = 0.6 * m + 0.4 * slope, 0.7 * v + 0.3 * slope**2
        scale = (1 - 0.7 ** (count + 1)) ** 0.5 / (1 - 0.6 ** (count + 1))
        x -= 0.1 * min(count, 1) * scale * m / (v**0.5 + 0.05)
        average = 0.75 * average + 0.25 * x
        assert float(params["x"]) == pytest.approx(x, rel=1e-5)
        assert float(optimizer.ema_params(current)["x"]) == pytest.approx(average, rel=1e-5)
    assert x != 2.0
