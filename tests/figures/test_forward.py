"""The figure of the forward process: its numbers against the paper's equations, and its files."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import diffusion, parameterization
from ddpm_jax.figures import forward, program
from ddpm_jax.figures.trajectories import TrainedRun
from ddpm_jax.losses import bound
from ddpm_jax.parameterization import Denoised
from ddpm_jax.run import sampling

LINEAR = diffusion.linear(1000, 1e-4, 0.02)


def test_the_weights_of_eq_12_fall_as_the_paper_says_of_eq_14():
    """Sec. 3.4: Eq. 14 gives small t less weight; in Eq. 12 theirs are up to fifty times those at t = 100."""
    found = forward.weights(LINEAR)["beta"]
    assert len(found) == 1000
    assert [round(found[t - 1], 3) for t in (10, 100)] == [0.074, 0.010]
    assert round(found[0], 2) == 0.5
    tilde = forward.weights(LINEAR)["beta_tilde"]
    assert np.isinf(tilde[0]) and (tilde[1:] > found[1:]).all()


@pytest.mark.parametrize("name, variance", [("beta", "fixed_large"), ("beta_tilde", "fixed_small")])
def test_a_weight_times_an_error_of_eps_is_the_term_of_the_bound_that_depends_on_the_network(
    name, variance
):
    rng = np.random.default_rng(0)
    x_0, eps, error = (
        jnp.asarray(rng.standard_normal((3, 4, 4, 1)), jnp.float32) for _ in range(3)
    )
    t = jnp.array([2, 10, 300])
    x_t = diffusion.q_sample(LINEAR, x_0, t, eps)

    def term(eps_hat):
        out = Denoised(diffusion.x_0_from_eps(LINEAR, x_t, eps_hat, t))
        chosen = getattr(parameterization, variance)
        return bound.bound_term(LINEAR, chosen, out, x_0, x_t, t, 256) * math.log(2.0)

    expected = forward.weights(LINEAR)[name][np.asarray(t) - 1] * (error**2).mean((1, 2, 3))
    np.testing.assert_allclose(term(eps + error) - term(eps), expected, rtol=2e-3)


def test_a_chain_seen_at_some_times_has_the_marginals_of_eq_4():
    """With the unit vectors as x_0 and as noises, x_t holds the chain's coefficients."""
    sched, times = diffusion.linear(20, 0.01, 0.3), [0, 3, 4, 11, 20]
    x_0, *noise = jnp.eye(5).reshape(5, 1, 1, 5, 1)
    for t, x_t in zip(times, forward.chain(sched, x_0, times, noise), strict=True):
        signal, *rest = np.asarray(x_t, np.float64).ravel()
        assert signal == pytest.approx(np.sqrt(sched.alpha_bar[t]), rel=1e-5)
        assert np.square(rest).sum() == pytest.approx(1.0 - sched.alpha_bar[t], rel=1e-5)
        ratio = forward.signal_to_noise(sched)[t - 1] if t else np.inf
        assert t == 0 or signal**2 / np.square(rest).sum() == pytest.approx(ratio, rel=1e-5)


def test_the_terms_are_drawn_where_an_evaluation_has_some(loud_run, capsys):
    run = loud_run(**{"eval.images": 8})
    program.check(run, ["forward"])
    sampler = sampling.make_program(run.model, run.sample.chain)
    trained = TrainedRun(run, 4, {}, sampler, run.directory / "kept")
    drawn = forward.forward(trained)
    assert "no terms by t in forward" in capsys.readouterr().out
    assert drawn.facts["times"] == list(range(9)) and "terms" not in drawn.facts
    assert drawn.facts["eq_12_weights"]["beta_tilde"][0] is None
    assert len(drawn.facts["indices"]) == forward.ROWS
    assert not drawn.facts.keys() & program.facts(run, 4).keys()  # which they would replace
    assert len(drawn.pages["-schedule"].axes) == 2
    terms = {"first": [1, 2, 5], "size": [1, 3, 4], "bits_per_dim": [2.0, 3.0, 0.0]}
    path = run.directory / "eval" / "4-likelihood-test.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"terms": terms}))
    drawn = forward.forward(trained)
    assert drawn.facts["terms"] == {"t": [1.0, 3.0, 6.5], "bits_per_dim": [2.0, 1.0, 0.0]}
    assert len(drawn.pages["-schedule"].axes) == 3
