"""The train step on 1, 2 and 8 devices, and runs that stop and resume."""

import json
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from PIL import Image
from support import events
from support.training import assert_equal, leaves, newest, stub_of, trained

from ddpm_jax import diffusion, optimizer, sde
from ddpm_jax.datasets import pixels, source
from ddpm_jax.evaluation import evaluate
from ddpm_jax.run import sampling, state
from ddpm_jax.runtime import checkpoint, console, signals
from ddpm_jax.training import gradient, start, train


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_clip_groups_clip_each_share_of_the_batch_then_average(tiny, tmp_path):
    """Each with dropout masks of its own."""
    run = stub_of(
        tiny, tmp_path, **{"train.clip_groups": 4, "train.clip": 0.05, "model.dropout": 0.5}
    )
    params = jax.jit(lambda: state.initial(run))().params
    x_0 = jax.random.uniform(jax.random.key(0), (16, 8, 8, 1), minval=-1.0)
    eps, t = jax.random.normal(jax.random.key(1), x_0.shape), jnp.arange(16) % 8 + 1
    key, whole = jax.random.key(2), gradient.Examples(x_0, t, eps, jnp.ones(16))
    _, grads, norm = jax.jit(lambda p: gradient.gradient(run, p, whole, key))(params)

    one = run._replace(train=run.train._replace(clip_groups=1))
    share = jax.jit(lambda p, batch, key: gradient.gradient(one, p, batch, key))
    parts = [
        share(params, gradient.Examples(*(a[4 * i : 4 * i + 4] for a in whole[:4])), own)
        for i, own in enumerate(jax.random.split(key, 4))
    ]
    assert float(norm) == pytest.approx(np.mean([part[2] for part in parts]), rel=1e-4)
    assert all(float(part[2]) > 0.05 for part in parts)  # or nothing was clipped
    mean = jax.tree.map(lambda *g: sum(g) / 4, *[part[1] for part in parts])
    for a, b in zip(leaves(grads), leaves(mean), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    _, as_one, _ = share(params, whole, key)
    assert float(optax.global_norm(jax.tree.map(jnp.subtract, grads, as_one))) > 1e-3


def test_the_train_step_asks_the_objective_about_normalised_images_and_every_t(tiny, tmp_path):
    run, seen = stub_of(tiny, tmp_path, **{"data.flip": True}), {}

    def objective(sched, network, x_0, t, eps):
        seen.update(x_0=x_0, t=t, eps=eps)
        return (network(x_0, t) ** 2).mean(axis=(1, 2, 3))

    run = run._replace(model=run.model._replace(objective=objective))
    current = jax.jit(lambda: state.initial(run))()
    batch = jnp.arange(64 * 64, dtype=jnp.uint8).reshape(64, 8, 8, 1) % 17
    drawn = []
    for step in range(4):

        def asked(current, batch):
            train.train_step(run, current, source.Batch(batch))
            return dict(seen)

        now = jax.jit(asked)(current._replace(step=jnp.asarray(step)), batch)
        drawn.append(now)
        straight = pixels.normalize(batch, 17)
        as_is = np.isclose(now["x_0"], straight).all(axis=(1, 2, 3))
        mirrored = np.isclose(now["x_0"], straight[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (as_is ^ mirrored).all() and 0.2 < as_is.mean() < 0.8
    assert set(np.concatenate([now["t"] for now in drawn]).tolist()) == set(range(1, 9))
    assert not np.allclose(drawn[0]["eps"], drawn[1]["eps"])  # another step, another noise
    noise = np.stack([now["eps"] for now in drawn])
    assert noise.mean() == pytest.approx(0.0, abs=0.05) and noise.std() == pytest.approx(
        1, abs=0.05
    )


def test_samples_and_the_bound_are_of_the_average(tiny, tmp_path):
    final = trained(stub_of(tiny, tmp_path, **{"train.steps": 4, "optimizer.learning_rate": 0.01}))
    step, weights = state.read_ema(stub_of(tiny, tmp_path))
    assert step == 4
    assert_equal(weights, optimizer.ema_params(final.opt_state))
    assert not np.allclose(weights["Conv_0"]["kernel"], final.params["Conv_0"]["kernel"])


def test_a_loss_that_is_no_number_stops_the_run_and_is_not_saved(tiny, tmp_path):
    trained(stub_of(tiny, tmp_path, **{"train.steps": 2}))
    run = stub_of(tiny, tmp_path, **{"train.steps": 6})
    diverged = run._replace(model=run.model._replace(objective=lambda *args: jnp.full(16, jnp.nan)))
    with pytest.raises(FloatingPointError, match="not finite at step 3; its batch is in"):
        train.train(diverged)
    assert int(newest(run).step) == 2 and [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_the_offending_batch_is_named_image_by_image(tiny, tmp_path):
    run, seen = stub_of(tiny, tmp_path), []

    def objective(sched, network, x_0, t, eps):
        jax.debug.callback(lambda images: seen.append(np.asarray(images)), x_0)
        return jnp.full(16, jnp.nan)

    with pytest.raises(FloatingPointError, match="step 1; its batch is in"):
        train.train(run._replace(model=run.model._replace(objective=objective)))
    record = json.loads((tmp_path / "nonfinite-1.json").read_text())
    assert (record["step"], record["split"], len(record["indices"])) == (1, "train", 16)
    images = run.data.open("train").read(np.array(record["indices"]))
    np.testing.assert_array_equal(pixels.normalize(jnp.asarray(images), run.model.levels), seen[0])


def test_steps_that_are_not_finite_are_skipped_where_asked_for_and_counted(tiny, tmp_path):
    tiny.train.update(on_nonfinite="skip", log_every=4, steps=12, checkpoint_every=5)
    run = stub_of(tiny, tmp_path)
    bad = []

    def objective(sched, network, x_0, t, eps):
        loss = run.model.objective(sched, network, x_0, t, eps)
        broken = t[0] <= 3
        jax.debug.callback(lambda broken: bad.append(bool(broken)), broken)
        return jnp.where(broken, jnp.nan, loss)

    final = trained(run._replace(model=run.model._replace(objective=objective)))
    assert 0 < sum(bad) < 12 == len(bad)
    logged = rows(tmp_path)
    windows = [(0, 1), (1, 2), (2, 4), (4, 8), (8, 12)]
    assert [row["step"] for row in logged] == [last for _, last in windows]
    assert [row.get("skipped", 0) for row in logged] == [sum(bad[i:j]) for i, j in windows]
    assert all(np.isfinite(row.get("loss", 0.0)) for row in logged)
    assert int(final.opt_state[0].count) == 12 - sum(bad)
    counts = [step - sum(bad[:step]) for step in (1, 2, 4, 8, 12)]  # a skipped step is no update
    rate = tiny.optimizer.learning_rate
    expected = [rate * min(max(count - 1, 0) / tiny.optimizer.warmup, 1) for count in counts]
    assert [row["learning_rate"] for row in logged] == pytest.approx(expected)
    assert all(np.isfinite(leaf).all() for leaf in leaves(final))
    assert not list(tmp_path.glob("nonfinite-*"))


def test_the_train_step_is_traced_once(tiny, tmp_path, monkeypatch):
    """A second trace is a second compilation: minutes on a TPU."""
    traced, step = [], train.train_step
    monkeypatch.setattr(train, "train_step", lambda *args: traced.append(1) or step(*args))
    train.train(stub_of(tiny, tmp_path))  # over three logged rows
    assert len(traced) == 1


def test_train_stop_train_is_train_bit_for_bit(tiny, tmp_path, capsys):
    """Also the logged rows, though the stop is in the middle of a row's window."""
    tiny.train.checkpoint_every = 3
    whole = trained(stub_of(tiny, tmp_path / "whole", **{"train.steps": 6}))
    trained(stub_of(tiny, tmp_path / "parts", **{"train.steps": 3}))
    parts = trained(stub_of(tiny, tmp_path / "parts", **{"train.steps": 6}))
    assert int(parts.step) == 6
    assert_equal(whole, parts)
    said = capsys.readouterr().out
    assert "resuming from step 3" in said and "x_T is not noise" in said  # its T is 8
    assert_equal(parts, trained(stub_of(tiny, tmp_path / "parts")))  # it is finished: nothing moves
    timeless = [
        [
            {k: row[k] for k in ("step", "loss", "grad_norm", "learning_rate")}
            for row in rows(tmp_path / name)
        ]
        for name in ("whole", "parts")
    ]
    assert timeless[0] == timeless[1] and [row["step"] for row in timeless[0]] == [1, 2, 4, 6]
    shown = {(step, name) for step, name, _ in events.scalars(tmp_path / "whole")}
    assert {(2, "learning_rate"), (4, "learning_rate"), (6, "learning_rate")} <= shown


def test_rows_logged_after_the_checkpoint_are_not_doubled(tiny, tmp_path):
    run = stub_of(tiny, tmp_path, **{"train.steps": 4})
    trained(run)
    before = rows(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 0.5}\n{"step": 6, "lo')  # as a killed process leaves it
    trained(stub_of(tiny, tmp_path, **{"train.steps": 6}))
    assert rows(tmp_path)[:3] == before
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 4, 6]


def test_the_loss_falls_the_average_follows_and_a_grid_is_drawn(tiny, tmp_path, capsys):
    tiny.train.update(steps=60, log_every=20, checkpoint_every=60, sample_every=60)
    tiny.optimizer.learning_rate = 1e-2
    run = stub_of(tiny, tmp_path)
    final = trained(run)
    assert capsys.readouterr().out.count(" left: 49 steps of ") == 1
    losses = [row["loss"] for row in rows(tmp_path)]
    assert losses[-1] < losses[0] and losses[-1] < 0.75  # a network that says nothing has 1
    gap = jax.tree.map(jnp.subtract, final.params, optimizer.ema_params(final.opt_state))
    assert 0.0 < float(optax.global_norm(gap)) < 0.2 * float(optax.global_norm(final.params))
    grid = np.asarray(Image.open(tmp_path / "samples" / "60-grid.png"))
    assert grid.shape == (17 * 45, 17 * 45)  # 2x2 images of 8 pixels and a line, 45 times enlarged


def test_training_and_its_bound_say_what_they_do_while_they_do_it(tiny, tmp_path, monkeypatch):
    done = []

    @contextmanager
    def doing(work, bar=None, at_once=False):
        done.append(work)
        yield
        done.append(f"done {work}")

    monkeypatch.setattr(console, "doing", doing)
    tiny.train.update(steps=4, sample_every=4, checkpoint_every=2)
    tiny.eval.update(images=8)
    run = stub_of(tiny, tmp_path)
    train.train(run)
    evaluate.evaluate_held_out(run)
    work = ["compiling the train step (seconds to minutes)", "saving", "drawing samples", "saving"]
    work += ["saving", "measuring the bound"]
    assert done == [line for each in work for line in (each, f"done {each}")]


def test_checkpoints_kept_are_the_newest_every_kth_and_the_best(tmp_path):
    directory = epath.Path(tmp_path)
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: 5.0, 5: 4.0, 6: 6.0, 7: 7.0}
    with checkpoint.manager(directory, keep=2, keep_every=4, keep_best="loss") as manager:
        for step, loss in losses.items():
            checkpoint.save(manager, step, {"x": jnp.full(3, step)}, {"loss": loss})
        manager.wait_until_finished()
        assert sorted(manager.all_steps()) == [2, 4, 6, 7]


def test_the_best_checkpoint_is_kept_across_a_restart(tmp_path):
    directory = epath.Path(tmp_path)
    for losses in ({1: 3.0, 2: 1.0, 3: 2.0}, {4: 5.0, 5: 4.0, 6: 6.0}):
        with checkpoint.manager(directory, keep=1, keep_every=0, keep_best="loss") as manager:
            for step, loss in losses.items():
                checkpoint.save(manager, step, {"x": jnp.full(3, step)}, {"loss": loss})
            manager.wait_until_finished()
            kept = set(manager.all_steps())
    assert kept == {2, 6}


def test_a_sample_does_not_depend_on_batch_size_or_device_count(tiny, tmp_path):
    trained(stub_of(tiny, tmp_path, **{"train.steps": 2}))
    made = []
    for devices, batch in ((1, 8), (8, 8), (2, 4)):
        run = stub_of(tiny, tmp_path, **{"parallel.devices": devices, "sample.batch_size": batch})
        sampling.generate(run)
        (path,) = tmp_path.glob("samples/2-*.npz")
        made.append(np.load(path)["arr_0"])
        path.unlink()
    assert made[0].shape == (8, 8, 8, 1) and made[0].dtype == np.uint8
    for other in made[1:]:
        assert (made[0] != other).mean() < 0.01  # rounding to a grey level may tip over
    assert len(np.unique(made[0].reshape(8, -1), axis=0)) == 8


def test_sampling_goes_on_with_the_batches_it_has(tiny, tmp_path, monkeypatch):
    trained(stub_of(tiny, tmp_path, **{"train.steps": 2}))
    run = stub_of(tiny, tmp_path, **{"sample.count": 20, "parallel.devices": 1})
    sampling.generate(run)
    (path,) = tmp_path.glob("samples/2-*.npz")
    whole = np.load(path)["arr_0"]
    assert whole.shape[0] == 20
    path.unlink()
    drawn, draw = [], sampling.draw_batch

    def stopped_by_a_signal(run, program, params, number, *args):
        drawn.append(number)
        if drawn == [0, 1]:
            monkeypatch.setattr(signals, "pending", ["SIGTERM"])
        return draw(run, program, params, number, *args)

    monkeypatch.setattr(sampling, "draw_batch", stopped_by_a_signal)
    with pytest.raises(signals.Stopped, match="SIGTERM at step 0 of 8 of batch 2"):
        sampling.generate(run)
    assert not list(tmp_path.glob("samples/2-*.npz"))
    monkeypatch.setattr(signals, "pending", [])
    sampling.generate(run)
    assert drawn == [0, 1, 1, 2]
    np.testing.assert_array_equal(np.load(path)["arr_0"], whole)
    assert not list(tmp_path.glob("samples/.*"))


def test_the_bound_is_written_with_what_it_is(tiny, tmp_path, capsys):
    trained(stub_of(tiny, tmp_path, **{"train.steps": 2}))
    for devices in (1, 8):
        some = {"eval.images": 20, "eval.train_images": 9, "parallel.devices": devices}
        evaluate.evaluate(stub_of(tiny, tmp_path, **some))
        record = json.loads((tmp_path / "eval" / "2-likelihood-train.json").read_text())
        assert (record["images"], record["split"]) == (9, "train")
        record = json.loads((tmp_path / "eval" / "2-likelihood-test.json").read_text())
        assert record["bits_per_dim"] == pytest.approx(record["rate"] + record["distortion"])
        terms = record["terms"]
        assert record["rate"] == pytest.approx(record["prior"] + sum(terms["bits_per_dim"][1:]))
        assert terms["first"] == list(range(1, 9)) and terms["size"] == [1] * 8
        assert record["rmse"] == terms["rmse"][0] < terms["rmse"][-1]
        assert (record["images"], record["steps"], record["of_steps"]) == (20, 8, 8)
        assert record["weights"] == "ema" and record["standard_error"] > 0
        said = capsys.readouterr().out
        assert f"{record['bits_per_dim']:.3f} bits/dim (20 images, 8 of 8 steps)" in said
        if devices == 1:
            alone = record["bits_per_dim"]
    assert record["bits_per_dim"] == pytest.approx(alone, rel=1e-4)


def test_a_run_of_which_every_step_was_skipped_is_not_called_trained(tiny, tmp_path):
    """Ten skipped steps in a row are enough, and so are all steps of a shorter run; also when resumed."""
    tiny.train.update(on_nonfinite="skip", log_every=100, steps=3, checkpoint_every=1)
    run = stub_of(tiny, tmp_path)
    run = run._replace(model=run.model._replace(objective=lambda *args: jnp.full(16, jnp.nan)))
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="not finite at step"):
            train.train(run)
        assert int(newest(run).step) == 2


def test_the_last_line_has_the_newest_finite_loss_and_what_was_skipped_after_it(
    tiny, tmp_path, capsys
):
    tiny.train.update(on_nonfinite="skip", log_every=2, steps=8)
    run = stub_of(tiny, tmp_path)
    broken = []

    def objective(sched, network, x_0, t, eps):
        bad = jax.pure_callback(
            lambda _: broken.append(1) or np.bool_(len(broken) > 5),
            jax.ShapeDtypeStruct((), bool),
            t,
        )
        return jnp.where(bad, jnp.nan, run.model.objective(sched, network, x_0, t, eps))

    train.train(run._replace(model=run.model._replace(objective=objective)))
    logged = rows(tmp_path)
    assert [row.get("skipped", 0) for row in logged] == [0, 0, 0, 1, 2]
    last = capsys.readouterr().out.splitlines()[-1]
    loss = f"loss {logged[3]['loss']:.4f}"
    assert last == f"trained to step 8, {loss}; the last 3 steps were not finite and were skipped"


@pytest.mark.parametrize(
    "sched, ratio",
    [
        (diffusion.linear(10, 1e-4, 0.02), "9.39"),
        (sde.ve(10, 0.02, 2.0), "0.25"),
        (diffusion.linear(1000, 1e-4, 0.02), None),
        (diffusion.cosine(10), None),
        (sde.ve(10, 0.02, 20.0), None),
        (sde.sub_vp(100, 1e-3, 0.2), None),
    ],
)
def test_a_schedule_whose_last_x_is_not_noise_is_told(sched, ratio):
    """For a process that explodes the ratio is 1 / sigma_max^2, though its signal is never scaled down."""
    said = start.describe_signal(sched)
    assert bool(said) == (ratio is not None)
    assert ratio is None or f"signal-to-noise ratio is {ratio}, above 0.01" in said
