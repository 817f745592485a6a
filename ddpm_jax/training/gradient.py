"""The gradient of a batch, by whatever way memory and devices allow: parts, groups, devices.

Each way gives the plain gradient up to the order of floating-point sums, except that dropout's masks
are of the parts, and that a group's gradient is clipped by itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Key

from ddpm_jax import optimizer
from ddpm_jax.diffusion import Images, PerImage, Times
from ddpm_jax.distributed import mesh
from ddpm_jax.networks.conditioning import Labels
from ddpm_jax.run import model
from ddpm_jax.run.run import Run

Params = Any


class Examples(NamedTuple):
    x_0: Images
    t: Times
    eps: Images
    weight: PerImage  # of its loss in the mean
    labels: Labels | None = None


class Gradient(NamedTuple):
    losses: PerImage  # not weighted
    grads: Params
    norm: Float[Array, ""]  # of the gradient before it was clipped


def gradient(run: Run, params: Params, examples: Examples, dropout: Key[Array, ""]) -> Gradient:
    """Of the mean over the examples, clipped per group of consecutive ones, then averaged.

    One group is the ordinary global clip; 8 groups is what the paper's eight cores did.
    """
    groups, devices = run.train.clip_groups, run.mesh.size
    whole = mesh.gather(run.layout, params)
    if groups == 1:
        found = clipped_gradient(run, whole, examples, dropout)
    elif groups % devices == 0:
        # Every device its own groups, as the paper's cores had them: nothing waits for another.
        shares, all_alike = PartitionSpec("data"), PartitionSpec()

        def local(*args):
            losses, *averaged = mean_over_groups(run, groups // devices, *args)
            return Gradient(losses, *jax.lax.pmean(averaged, "data"))

        found = jax.shard_map(
            local,
            mesh=run.mesh,
            in_specs=(all_alike, shares, shares),
            out_specs=Gradient(shares, all_alike, all_alike),
            check_vma=False,  # or jax would sum the gradients of what is whole before they are clipped
        )(whole, examples, jax.random.split(dropout, groups))
    else:
        found = mean_over_groups(run, groups, whole, examples, jax.random.split(dropout, groups))
    places = mesh.state_shardings(run.layout, found.grads)
    return found._replace(grads=jax.lax.with_sharding_constraint(found.grads, places))


def mean_over_groups(run: Run, groups: int, params: Params, examples: Examples, keys) -> Gradient:
    """The mean of the groups' clipped gradients."""
    split = jax.tree.map(lambda a: a.reshape(groups, -1, *a.shape[1:]), examples)
    # One group after another: jax 0.7 cannot vmap the convolutions' gradient on CPUs.
    losses, *each = jax.lax.map(lambda group: clipped_gradient(run, params, *group), (split, keys))
    return Gradient(losses.reshape(-1), *jax.tree.map(lambda leaf: leaf.mean(axis=0), each))


def clipped_gradient(
    run: Run, params: Params, examples: Examples, dropout: Key[Array, ""]
) -> Gradient:
    def of_mean(examples: Examples, dropout: Key[Array, ""]) -> tuple[PerImage, Params]:
        x_0, t, eps, weight, labels = examples

        def loss(params):
            network = model.network(run.model, params, dropout, labels)
            losses = run.model.objective(run.model.sched, network, x_0, t, eps)
            return jnp.mean(weight * losses), losses

        grads, losses = jax.grad(loss, has_aux=True)(params)
        return losses, grads

    losses, grads = accumulate(of_mean, run.layout.accumulation, examples, dropout)
    return Gradient(losses, *optimizer.clip(grads, run.train.clip))


def accumulate(of_mean: Callable, parts: int, examples: Examples, dropout: Key[Array, ""]):
    """The losses, and the mean of the gradients of parts, taken one after another: memory is a part's.

    Part j has the examples j, j + parts, ...: a share of every device's, wherever they are.
    """
    if parts == 1:
        return of_mean(examples, dropout)
    split = jax.tree.map(lambda a: a.reshape(-1, parts, *a.shape[1:]).swapaxes(0, 1), examples)

    def add(total, part):
        losses, grads = of_mean(*part)
        return jax.tree.map(jnp.add, total, grads), losses

    keys = jax.random.split(dropout, parts)
    _, first = jax.eval_shape(of_mean, jax.tree.map(lambda a: a[0], split), keys[0])
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), first)
    total, losses = jax.lax.scan(add, nothing, (split, keys))
    return losses.swapaxes(0, 1).reshape(-1), jax.tree.map(lambda leaf: leaf / parts, total)
