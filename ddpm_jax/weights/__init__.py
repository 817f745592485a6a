"""Foreign weights in and out."""
