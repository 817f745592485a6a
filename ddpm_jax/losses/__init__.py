"""Objectives, the variational bound, and the drawing of t in training."""
