"""What draws t: unbiased whatever it remembers, and what it remembers is the last losses of each t."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config
from etils import epath

from ddpm_jax import sde
from ddpm_jax.config import build
from ddpm_jax.losses import timesteps
from ddpm_jax.run import sampling, state
from ddpm_jax.training import train

T = 5
LOSSES = jnp.array([8.0, 2.0, 1.0, 0.5, 0.25])  # of t = 1..5


def warmed(sampler):
    """Every t seen ten times, with its own loss."""
    memory = sampler.init()
    for _ in range(timesteps.HISTORY):
        memory = sampler.learn(memory, jnp.arange(1, T + 1), LOSSES)
    return memory


@pytest.mark.parametrize("name", ["uniform", "importance"])
def test_the_weighted_mean_loss_is_unbiased(name):
    sampler = getattr(timesteps, name)(T)
    memory = warmed(sampler)
    t, weight = sampler.draw(memory, jax.random.key(0), (200_000,))
    values = np.asarray(weight * LOSSES[t - 1], np.float64)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - float(LOSSES.mean())) < 4 * error
    if (
        name == "importance"
    ):  # of losses that are always the same, next to nothing is left to chance
        assert error < 0.01 * float(LOSSES.std()) / np.sqrt(len(values)) * 10


def test_continuous_time_is_uniform_between_its_ends():
    t, weight = timesteps.continuous(T).draw((), jax.random.key(0), (100_000,))
    assert sde.T_MIN <= float(t.min()) < 0.02 and T - 0.01 < float(t.max()) <= T
    shares, _ = np.histogram(t, bins=np.linspace(0.01, T, 11))
    np.testing.assert_allclose(shares / 1e5, 0.1, atol=0.004)
    np.testing.assert_array_equal(weight, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["simple", "likelihood"])
def test_a_run_trains_in_continuous_time_and_samples_by_what_is_there(digits, tmp_path, loss):
    """The train step and the chain, each compiled for continuous time."""
    config = tiny_config(digits)
    config.diffusion.schedule.name = "vp"
    config.diffusion.update(timesteps="continuous", loss=loss)
    config.sample.solver = "predictor_corrector"
    run = build.run(config, epath.Path(tmp_path))
    train.train(run)
    step, params = state.read_ema(run)
    assert step == 6 and sampling.write_samples(run, step, params).std() > 0


def test_t_is_drawn_by_the_root_mean_square_of_its_losses():
    sampler = timesteps.importance(T)
    memory = sampler.init()
    for i in range(timesteps.HISTORY):  # alternating 0 and 2L: the same mean, another second moment
        at = LOSSES.at[0].set(0.0 if i % 2 else 16.0)
        memory = sampler.learn(memory, jnp.arange(1, T + 1), at)
    size = np.array([8.0 * 2**0.5, 2.0, 1.0, 0.5, 0.25])
    expected = 0.999 * size / size.sum() + 0.001 / T
    np.testing.assert_allclose(timesteps.probabilities(memory), expected, rtol=1e-5)
    t, _ = sampler.draw(memory, jax.random.key(1), (100_000,))
    np.testing.assert_allclose(np.bincount(t, minlength=T + 1)[1:] / 1e5, expected, atol=0.006)


def test_until_every_t_was_seen_ten_times_it_is_uniform():
    sampler = timesteps.importance(T)
    memory = warmed(sampler)
    short = memory._replace(seen=memory.seen.at[3].set(timesteps.HISTORY - 1))
    np.testing.assert_allclose(timesteps.probabilities(short), 1 / T)
    _, weight = sampler.draw(short, jax.random.key(0), (100,))
    np.testing.assert_allclose(weight, 1.0, rtol=1e-6)
    assert np.ptp(timesteps.probabilities(memory)) > 0.1


def test_the_history_is_the_last_ten_losses_of_each_t_image_by_image():
    """Against a list per t, over batches in which a t comes up to twenty times."""
    sampler, rng = timesteps.importance(T), np.random.default_rng(0)
    memory, lists = sampler.init(), {t: [] for t in range(1, T + 1)}
    for batch in range(12):
        t = rng.choice([1, 2] if batch % 4 == 3 else np.arange(1, T + 1), 24)
        losses = rng.random(24).astype(np.float32)
        memory = sampler.learn(memory, jnp.asarray(t), jnp.asarray(losses))
        for each, loss in zip(t, losses, strict=True):
            lists[each] = [*lists[each], loss][-timesteps.HISTORY :]
        for each, kept in lists.items():
            found = np.asarray(memory.losses[each - 1])
            assert sorted(found[found > 0.0].tolist()) == sorted(np.float32(kept).tolist())


@pytest.mark.slow
def test_what_is_remembered_is_in_the_checkpoint_and_the_run_goes_on_by_it(digits, tmp_path):
    """Memory is filled by as many steps as it takes."""

    def run_of(name, steps):
        config = tiny_config(digits)
        config.diffusion.update(variance="learned_range", loss="vlb", timesteps="importance")
        config.train.steps = steps
        return build.run(config, epath.Path(tmp_path / name))

    train.train(run_of("whole", 6))
    train.train(run_of("parts", 4))
    train.train(run_of("parts", 6))
    (_, whole, _), (_, parts, _) = (
        state.read_newest(run_of(name, 6)) for name in ("whole", "parts")
    )
    assert int(whole.memory.seen.sum()) == 6 * 16 and float(whole.memory.losses.sum()) > 0
    same = jax.tree.map(np.array_equal, jax.device_get(whole), jax.device_get(parts))
    assert all(jax.tree.leaves(same))
