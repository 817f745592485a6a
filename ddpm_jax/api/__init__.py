"""The Python interface: load() and train(), which return a Trained."""
