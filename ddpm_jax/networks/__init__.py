"""Network architectures, in flax."""
