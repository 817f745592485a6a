"""Algorithm 1 on a mesh."""
