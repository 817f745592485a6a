"""The samplers that Trained's methods run: the config's, a user's own, and DDIM's ODE up and down."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from ddpm_jax import parameterization
from ddpm_jax.config import build, guide, validate
from ddpm_jax.parameterization import Denoiser
from ddpm_jax.run import run as runs
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Chain, Run
from ddpm_jax.samplers import loop, ode_solvers, own, spacing
from ddpm_jax.samplers.steps import Sampler, Solver, ddim, lift

# The fields of the config's sample section that keywords may replace.
FIELDS = "solver", "steps", "eta", "spacing", "classifier", "batch_size"
Own = Any  # a user's Step, Sampler, plan function or Solver; or None
Guidance = Callable[[Denoiser], Denoiser]


class Setting(NamedTuple):
    """A sampler as compiled for a run; 'run' has the fields that it was configured with."""

    run: Run
    chain: Chain
    program: loop.Program


def check_names(fields: Mapping[str, Any]) -> None:
    """Raises TypeError for a keyword that is not one of FIELDS."""
    for name in fields.keys() - set(FIELDS):
        raise TypeError(f"unexpected keyword {name!r}; expected {', '.join(FIELDS)}")


def configure(
    run: Run,
    fields: Mapping[str, Any],
    sampler: Own = None,
    guidance: Guidance | None = None,
) -> Setting:
    """Returns the sampler that a run's config names, with some fields of its sample section replaced.

    'sampler' is the user's own instead, of any form that samplers/own.py takes; 'guidance' is applied
    after the config's. Raises ValueError for fields that do not fit the model.
    """
    if fields:
        run = build.change(run, {f"sample.{name}": value for name, value in fields.items()})
    run = guide.open_guide(run)
    chain = run.sample.chain
    if sampler is not None:
        chain = own_chain(run, own.as_solver(sampler, "own"))
    program = sampling.make_program(run.model, chain, guide=guidance or (lambda denoise: denoise))
    return Setting(run, chain, program)


def own_chain(run: Run, solver: Solver) -> Chain:
    """Returns the chain of a run with a solver of the user's own, which takes its options from the config."""
    section = run.config["sample"]
    available = section["langevin"] | {
        "variance": run.model.variance,
        "eta": section["eta"],
        "spacing": spacing.SPACINGS[section["spacing"]],
    }
    plan = validate.call("sampler", solver.plan, available, run.model.sched, section["steps"])
    return run.sample.chain._replace(
        sampler=plan.sampler,
        times=plan.times,
        classifier_guidance=solver.classifier_guidance,
        takes_labels=solver.takes_labels,
    )


def encoder(run: Run, steps: int) -> Setting:
    """Returns DDIM's ODE from images to x_T. Raises ValueError for a network that predicts a mean."""
    return ode(run, ode_solvers.inversion(), spacing.linear(run.model.sched.T, steps)[::-1].copy())


def decoder(run: Run, steps: int) -> Setting:
    """Returns DDIM's ODE from x_T to images. Raises ValueError for a network that predicts a mean."""
    return ode(run, lift(ddim(0.0)), spacing.linear(run.model.sched.T, steps))


def ode(run: Run, sampler: Sampler, times: Int[np.ndarray, " n"]) -> Setting:
    """Returns a deterministic sampler that does not clip x_0-hat, since a clip has no inverse.

    A network trained with label dropout is evaluated without a label unless one is given.
    """
    if run.model.parameterization is parameterization.x_prev:
        raise ValueError(
            "latents need x_0-hat for large steps, but diffusion.output=x_prev predicts the mean of"
            " single steps only"
        )
    label = run.model.network.classes if run.train.label_dropout else runs.ALL
    chain = Chain(sampler=sampler, times=times, name="ode", label=label)
    return Setting(run, chain, sampling.make_program(run.model, chain, clip=False))
