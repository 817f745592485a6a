"""The variational bound of whole images, over all steps or an unbiased sample of them. Eq. 5."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from ddpm_jax import diffusion, objective
from ddpm_jax.diffusion import Images, PerImage, Schedule
from ddpm_jax.parameterization import Denoiser, Variance


class Bound(NamedTuple):
    """Bits/dim per image: 'total' is prior + steps + decoder, L_T + L_{T-1} + ... + L_1 + L_0."""

    prior: PerImage
    steps: PerImage
    decoder: PerImage

    @property
    def total(self):
        return self.prior + self.steps + self.decoder


class Strata(NamedTuple):
    """Runs of consecutive steps; each is stood for by one of its steps, drawn per image."""

    first: Int[np.ndarray, " s"]
    size: Int[np.ndarray, " s"]


def strata(T: int, steps: int) -> Strata:
    """t = 1 by itself, and t = 2..T in 'steps' - 1 runs as equal as can be; steps = T is all of them.

    Raises ValueError unless 2 <= steps <= T.
    """
    if not 2 <= steps <= T:
        raise ValueError(f"eval.steps is {steps}; it must lie between 2 and T = {T}")
    runs = np.array_split(np.arange(2, T + 1), steps - 1)
    return Strata(
        np.array([1, *(run[0] for run in runs)]), np.array([1, *(len(run) for run in runs)])
    )


def bound(
    sched: Schedule,
    variance: Variance,
    denoiser: Denoiser,
    x_0: Images,
    keys: Key[Array, " b"],
    chosen: Strata,
    levels: int,
) -> Bound:
    """An unbiased estimate of each image's bound, one draw of x_t a stratum.

    With a denoiser that clips x_0 it is the release's figure. Keys are one an image.
    """
    first, size = jnp.asarray(chosen.first), jnp.asarray(chosen.size)

    def draw(key, j):
        key_t, key_eps = jax.random.split(jax.random.fold_in(key, j))
        t = first[j] + jax.random.randint(key_t, (), 0, size[j])
        return t, jax.random.normal(key_eps, x_0.shape[1:])

    def term(j):
        t, eps = jax.vmap(draw, (0, None))(keys, j)
        x_t = diffusion.q_sample(sched, x_0, t, eps)
        out = denoiser(x_t, t)
        return objective.bound_term(sched, variance, out, x_0, x_t, t, levels)

    def body(j, terms):
        return terms.at[j].set(size[j] * term(j))

    terms = jnp.zeros((len(chosen.first), x_0.shape[0]))
    terms = jax.lax.fori_loop(0, len(chosen.first), body, terms)
    return Bound(objective.prior_term(sched, x_0), terms[1:].sum(axis=0), terms[0])
