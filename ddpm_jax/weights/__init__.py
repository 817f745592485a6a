"""Imports foreign weights, and exports a run for other programs."""
