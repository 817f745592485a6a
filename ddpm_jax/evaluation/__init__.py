"""Measurements of a trained run: the bound, sample quality, accuracy."""
