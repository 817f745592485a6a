"""Algorithm 1 on a mesh: the train step and the training loop."""
