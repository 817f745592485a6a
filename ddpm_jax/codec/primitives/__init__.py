"""Entropy coders and shared randomness, which know nothing of diffusion."""
