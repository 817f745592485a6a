"""However a step is laid out over devices, memory and time, its numbers are the same."""

import jax
import numpy as np
import pytest
from support.stub import stubbed
from support.training import leaves, run_of, stub_of

from ddpm_jax import optimizer
from ddpm_jax.datasets import batches
from ddpm_jax.distributed import mesh
from ddpm_jax.run import state
from ddpm_jax.runtime import checkpoint
from ddpm_jax.training import train


@pytest.fixture
def steps_on(tiny, tmp_path):
    """Three train steps on so many devices, from one and the same state."""

    def go(devices, groups, network=stubbed, **fields):
        run = run_of(
            tiny,
            tmp_path / f"{devices}-{groups}",
            **{"parallel.devices": devices, "train.clip_groups": groups} | fields,
        )
        run = network(run)
        current = jax.jit(lambda: state.initial(run))()
        current = jax.device_put(current, state.shardings(run))
        step = train.compiled_step(run)
        source = batches.load(run.data.open("train"))
        losses = []
        for batch in batches.batches(source, 0, 16, slice(0, 16), 0, 3):
            current = step(current, mesh.put(run.mesh, batch))
            losses.append(float(current.window.loss.total))
        return losses, current

    return go


def the_u_net(run):
    return run


def assert_same(one, other):
    """Losses, parameters, their average, and Adam's first moments."""
    np.testing.assert_allclose(one[0], other[0], rtol=1e-4)
    for a, b in zip(leaves(parts(one[1])), leaves(parts(other[1])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max() + 1e-6)


# eps is large, for Adam would make a step of the rounding in gradients that are really zero
FIELDS = {"data.flip": True, "optimizer.eps": 1e-3}


@pytest.mark.parametrize("groups", [1, 8])
def test_results_do_not_depend_on_the_device_count(steps_on, groups):
    """With dropout and flips on: every mask, noise and t is a global array."""
    fields = FIELDS | {"model.dropout": 0.5}
    alone = steps_on(1, groups, **fields)
    for devices in (2, 8):
        assert_same(alone, steps_on(devices, groups, **fields))


@pytest.mark.slow
def test_the_u_net_s_step_is_the_same_spread_over_8_devices_and_computed_twice(
    steps_on, monkeypatch
):
    """The real network under remat and fsdp, compiled for 1 and 8 devices; stubs stand in for it elsewhere."""
    monkeypatch.setattr(mesh, "SMALL", 1)
    fields = FIELDS | {"model.dropout": 0.5}
    spread = {"parallel.params": "fsdp", "parallel.remat": (8,)}
    assert_same(steps_on(1, 1, the_u_net, **fields), steps_on(8, 1, the_u_net, **fields | spread))


def parts(final):
    return final.params, optimizer.ema_params(final.opt_state), final.opt_state[0].mu


LAYOUTS = {
    "fsdp in parts": {
        "parallel.params": "fsdp",
        "parallel.accumulation": 2,
    },
    "groups in parts": {"parallel.accumulation": 2, "train.clip_groups": 2},
    "fsdp in groups": {"parallel.params": "fsdp", "train.clip_groups": 8},
    "a device's groups in parts": {"parallel.accumulation": 2, "train.clip_groups": 8},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_numbers_do_not_depend_on_the_layout(steps_on, name, monkeypatch):
    """Without dropout, whose masks are of the parts that pass the network together."""
    monkeypatch.setattr(mesh, "SMALL", 1)
    fields = FIELDS | {"model.dropout": 0.0}
    layout = dict(LAYOUTS[name])
    groups = layout.pop("train.clip_groups", 1)
    alone = steps_on(1, groups, **fields)
    assert_same(alone, steps_on(8 if groups != 2 else 4, groups, **fields, **layout))


def test_fsdp_leaves_each_device_its_share_of_parameters_averages_and_moments(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(mesh, "SMALL", 64)
    fields = {"parallel.devices": 8, "parallel.params": "fsdp", "model.channels": 8}
    run = run_of(tiny, tmp_path, **fields)
    final = jax.jit(lambda: state.initial(run), out_shardings=state.shardings(run))()
    for leaf in jax.tree.leaves(parts(final)):
        share = leaf.addressable_shards[0].data.size
        can = leaf.size >= 64 and any(length % 8 == 0 for length in leaf.shape)
        assert share == (leaf.size // 8 if can else leaf.size), leaf.shape
    kernel = final.params["down_0"]["block_0"]["conv1"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 8


def test_a_run_goes_on_and_is_sampled_from_in_another_layout(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(mesh, "SMALL", 1)
    spread = {"parallel.devices": 8, "parallel.params": "fsdp"}
    run = stub_of(tiny, tmp_path / "spread", **{"train.steps": 4} | spread)
    train.train(run)
    whole = stub_of(
        tiny, tmp_path / "spread", **{"parallel.devices": 1, "parallel.params": "replicated"}
    )
    step, found = state.read_ema(whole)
    _, same = state.read_ema(run)
    assert step == 4
    for a, b in zip(leaves(found), leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(same))
    train.train(whole._replace(train=whole.train._replace(steps=6)))
    assert checkpoint.list_steps(whole.checkpoints)[-1] == 6
