"""Data sets of our own as TFDS builders; importing this package registers them by name."""

from ddpm_jax.datasets import digits  # noqa: F401  (registers itself with TFDS)
