"""Prints docs/config.md: python -m ddpm_jax.config.reference > docs/config.md"""

from ddpm_jax.config.reference import page

print(page.text(), end="")
