"""A run in memory: its types, its model, its state, sampling from it, its record."""
