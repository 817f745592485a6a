"""ConfigDict to Run: the only room that reads a config."""
