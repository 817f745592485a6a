"""A sampler of the user's own, in each of its forms, is a solver."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from ddpm_jax import diffusion
from ddpm_jax.samplers import ode_solvers, own, spacing, steps
from ddpm_jax.samplers.steps import Plan, Solver

SCHED = diffusion.linear(20, 1e-3, 0.2)


def step_of(eta, sched, x_t, denoised, t, s, noise):
    return t * x_t + s * denoised.x_0 + eta * noise / sched.T


step = partial(step_of, 0.3)


class Stepping:
    def __call__(self, sched, x_t, denoised, t, s, noise):
        return step(sched, x_t, denoised, t, s, noise)


def plan(sched, count, *, spacing):
    return Plan(steps.lift(step), spacing(sched.T, count), "")


FORMS = {
    "a Step": lambda sched, x_t, denoised, t, s, noise: step(sched, x_t, denoised, t, s, noise),
    "a Step with an option": step,
    "an object that is called": Stepping(),
    "a Sampler": steps.lift(step),
    "a plan": plan,
    "a Solver": Solver(plan),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_sampler_takes_the_same_step_at_the_same_times(form):
    plan = own.as_solver(FORMS[form], "my_module:my_step").plan(SCHED, 5, spacing=spacing.quadratic)
    assert plan.name == "my_module.my_step-5"
    np.testing.assert_array_equal(plan.times, spacing.quadratic(20, 5))
    x_t, x_0, noise, t, s = 0.5, -0.7, 2.0, 8, 3  # a number is as good as an image here
    denoise = lambda x, time: SimpleNamespace(x_0=x_0 if (x, time) == (x_t, t) else None)  # noqa: E731
    x_s, carry = plan.sampler.step(SCHED, denoise, x_t, t, s, noise, ())
    assert x_s == t * x_t + s * x_0 + 0.3 * noise / 20
    assert carry == () == plan.sampler.init(x_t)


def test_a_plan_keeps_its_times_and_its_name_follows_the_user_s():
    """Samples of a plan that calls itself ancestral-5 are not taken for ours."""
    made = Plan(ode_solvers.heun(), np.array([20, 3, 0]), "ancestral/5 *")
    plan = own.as_solver(lambda sched, n: made, "m:f").plan(SCHED, 5)
    assert (list(plan.times), plan.name) == ([20, 3, 0], "m.f-ancestral.5")
    solver = own.as_solver(Solver(lambda sched, n: made, takes_labels=False), "m:f")
    assert not solver.takes_labels


@pytest.mark.parametrize("value, found", [(3, "3"), (lambda x, y, z: x, "a function of 3 arg")])
def test_anything_else_is_refused_with_what_it_must_be(value, found):
    with pytest.raises(ValueError, match=f"a sampler must be a Step, .*; this is {found}"):
        own.as_solver(value, "m:f")


def test_what_looks_like_a_plan_must_return_one():
    with pytest.raises(ValueError, match="m.f returned 5.0; it must be a Plan"):
        own.as_solver(lambda x, y: 1.0 * y, "m:f").plan(SCHED, 5)
