"""Objectives, the variational bound, and how training draws t."""
