"""The gradient of a batch, split as memory and devices require: into groups, parts and device shares.

Every split gives the plain gradient up to the order of floating-point sums, except that dropout draws
a mask per part, and that each group's gradient is clipped by itself.
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
    """A batch as Algorithm 1 draws it."""

    x_0: Images
    t: Times
    eps: Images
    weight: PerImage  # of each loss in the mean
    labels: Labels | None = None


class Gradient(NamedTuple):
    losses: PerImage  # unweighted
    grads: Params  # clipped
    norm: Float[Array, ""]  # of the gradient before clipping


def gradient(run: Run, params: Params, examples: Examples, dropout: Key[Array, ""]) -> Gradient:
    """Computes the gradient of the mean loss, clipped per group of consecutive examples, then averaged.

    One group is ordinary global clipping; 8 groups is what the paper's eight cores did.
    """
    groups, devices = run.train.clip_groups, run.mesh.size
    params = mesh.gather(run.layout, params)
    if groups == 1:
        result = clipped_gradient(run, params, examples, dropout)
    elif groups % devices == 0:
        # Each device computes its own groups, as the paper's cores did, and none waits for another.
        by_image, replicated = PartitionSpec("data"), PartitionSpec()

        def device_mean(params: Params, examples: Examples, keys: Key[Array, " g"]) -> Gradient:
            own = mean_over_groups(run, groups // devices, params, examples, keys)
            grads, norm = jax.lax.pmean((own.grads, own.norm), "data")
            return Gradient(losses=own.losses, grads=grads, norm=norm)

        result = jax.shard_map(
            device_mean,
            mesh=run.mesh,
            in_specs=(replicated, by_image, by_image),
            out_specs=Gradient(by_image, replicated, replicated),  # pyright: ignore[reportArgumentType]
            check_vma=False,  # or jax would sum the gradients over devices before they are clipped
        )(params, examples, jax.random.split(dropout, groups))
    else:
        result = mean_over_groups(run, groups, params, examples, jax.random.split(dropout, groups))
    shardings = mesh.state_shardings(run.layout, result.grads)
    return result._replace(grads=jax.lax.with_sharding_constraint(result.grads, shardings))


def mean_over_groups(
    run: Run, groups: int, params: Params, examples: Examples, keys: Key[Array, " g"]
) -> Gradient:
    """Averages the clipped gradients of groups of consecutive examples; 'keys' holds one per group."""
    split = jax.tree.map(lambda a: a.reshape(groups, -1, *a.shape[1:]), examples)
    # One group after another: jax 0.7 cannot vmap the gradient of convolutions on CPUs.
    losses, *rest = jax.lax.map(lambda group: clipped_gradient(run, params, *group), (split, keys))
    grads, norm = jax.tree.map(lambda leaf: leaf.mean(axis=0), rest)
    return Gradient(losses=losses.reshape(-1), grads=grads, norm=norm)


def clipped_gradient(
    run: Run, params: Params, examples: Examples, dropout: Key[Array, ""]
) -> Gradient:
    """Computes the gradient of the mean loss, accumulated over parts, then clipped to a global norm."""

    def mean_gradient(examples: Examples, dropout: Key[Array, ""]) -> tuple[PerImage, Params]:
        x_0, t, eps, weight, labels = examples

        def loss(params):
            network = model.network(run.model, params, dropout, labels)
            losses = run.model.objective(run.model.sched, network, x_0, t, eps)
            return jnp.mean(weight * losses), losses

        grads, losses = jax.grad(loss, has_aux=True)(params)
        return losses, grads

    losses, grads = accumulate(mean_gradient, run.layout.accumulation, examples, dropout)
    clipped, norm = optimizer.clip(grads, run.train.clip)
    return Gradient(losses=losses, grads=clipped, norm=norm)


def accumulate(
    mean_gradient: Callable[[Examples, Key[Array, ""]], tuple[PerImage, Params]],
    parts: int,
    examples: Examples,
    dropout: Key[Array, ""],
) -> tuple[PerImage, Params]:
    """Returns the losses and the mean gradient of 'parts' parts, with the activations of one in memory.

    Part j holds the examples j, j + parts, ..., so that every device has a share of each part.
    """
    if parts == 1:
        return mean_gradient(examples, dropout)
    split = jax.tree.map(lambda a: a.reshape(-1, parts, *a.shape[1:]).swapaxes(0, 1), examples)

    def add(total, part):
        losses, grads = mean_gradient(*part)
        return jax.tree.map(jnp.add, total, grads), losses

    keys = jax.random.split(dropout, parts)
    _, shapes = jax.eval_shape(mean_gradient, jax.tree.map(lambda a: a[0], split), keys[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, losses = jax.lax.scan(add, zeros, (split, keys))
    return losses.swapaxes(0, 1).reshape(-1), jax.tree.map(lambda leaf: leaf / parts, total)
