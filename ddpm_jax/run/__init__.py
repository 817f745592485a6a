"""A run in memory: its types, model, train state, sampling and config.json."""
