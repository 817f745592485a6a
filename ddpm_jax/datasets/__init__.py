"""Data sets: those of our own, and where any are found or prepared."""
