"""Samplers from x_T to x_0: pure functions of a denoiser and noise."""
