"""Metrics of sample quality, as pure functions of features."""
