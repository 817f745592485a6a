"""The old name of `ddpm_jax.metrics`; it goes with the next release."""
