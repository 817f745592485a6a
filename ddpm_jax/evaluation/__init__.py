"""Numbers about a trained run: the bound, scores of samples, accuracy."""
