"""Device meshes and processes."""
