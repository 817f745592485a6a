"""--mode=sample: draws samples and, with --film, makes a film of how they emerge."""

from ddpm_jax.figures import program
from ddpm_jax.run import sampling
from ddpm_jax.run.run import Run


def sample(run: Run, film: bool) -> None:
    """Writes the samples and, with 'film', the film of the first ones. Raises Stopped after a signal."""
    sampling.generate(run)
    if film:
        program.figures(run, ["film"])
