"""The infrastructure of a run: files, checkpoints, locks, signals, logs and images."""
