"""Data sets as random-access sources and seeded batches."""
