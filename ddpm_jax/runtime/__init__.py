"""A run's folder and life: files, checkpoints, locks, signals, logs, images."""
