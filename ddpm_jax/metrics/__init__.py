"""Metrics of sample quality, pure functions of features."""
