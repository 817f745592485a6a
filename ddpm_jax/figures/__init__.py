"""--mode=figures: the paper's figures, drawn from a run's newest checkpoint."""
