"""The config reference: every field with its meaning, values and default, for docs/config.md and --help=config.

Imports no jax, so that help is quick.
"""
