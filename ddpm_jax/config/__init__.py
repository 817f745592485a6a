"""ConfigDict to Run: the room that checks a config and gives it a meaning."""
